"""Settings for a verb: read once, or one sentence that says what is wrong with seed.toml."""

from functools import lru_cache

from pydantic import ValidationError

from provisioning.errors import HostError
from seed.settings import Settings, config_file


@lru_cache
def settings() -> Settings:
    path = config_file()
    if not path.exists():
        raise HostError(
            f"there is no {path}",
            "seed init --management IF --provisioning IF --out-of-band IF",
        )
    try:
        return Settings()
    except ValidationError as err:
        first = err.errors()[0]
        where = ".".join(str(p) for p in first["loc"])
        raise HostError(f"{path}: {where}: {first['msg']}", f"Mend that line in {path}.") from err
    except (OSError, ValueError) as err:
        raise HostError(
            f"{path} cannot be read: {err}", f"Mend {path}, or write it anew: `seed init --force`."
        ) from err
