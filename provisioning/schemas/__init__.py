"""Other projects' schemas, as they are.

cloud-config-25.1.4.json: schema-cloud-config-v1.json of cloud-init 25.1.4, from Debian 13's package
cloud-init (cloudinit/config/schemas/), the version in the image `debian`. Copyright Canonical Ltd.
and others; GPL-3 or Apache-2.0, taken under Apache-2.0: LICENSE-Apache-2.0 beside it.
"""

from importlib.resources import files
from typing import Final

CLOUD_CONFIG: Final = files(__name__).joinpath("cloud-config-25.1.4.json")
