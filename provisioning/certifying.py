"""A certificate of Seed's CA on a BMC, so that Ironic, too, knows whom it talks to.

Part of a change of login (rotation.py), which is crash-safe the same way: the certificate is kept
before it is sent, and which one the BMC shows tells, without a login, how far it is.
"""

from dataclasses import dataclass
from typing import Final

import structlog

from provisioning.authority import fingerprint
from provisioning.errors import BmcError, BmcLoginRefused, BmcRefused, SeedError
from provisioning.models import Bmc
from provisioning.outcome import Wait
from provisioning.parts import LOGIN_TIMEOUT
from provisioning.room import Rotation
from provisioning.rotation_turn import AGAIN_SECONDS, PROBE_SECONDS, TRIES, Result, Turn, Turning
from provisioning.states import RotationStep as S
from provisioning.store import record

log = structlog.get_logger()

CSR_SECONDS: Final = 120.0
"""A BMC takes up to a minute to make an RSA key."""
SHOWN_SECONDS: Final = 2.0


@dataclass(frozen=True)
class Certifying(Turning):
    def certify(self, turn: Turn) -> Result:
        """So that Ironic, too, knows whom it talks to. What cannot be had is done without."""
        bmc = turn.bmc
        if not bmc.fingerprint or self.parts.authority.signed(bmc.certificate, bmc.address):
            self.move(turn, S.CERTIFIED)
            return None
        if absent := self.absent(turn):
            return absent
        try:
            csr = self.protocol(turn).request_csr(turn.contact, self.old(turn), CSR_SECONDS)
            certificate = self.parts.authority.sign(csr, bmc.address)
        except BmcLoginRefused as err:
            raise self.refused(turn, err) from err
        except BmcError as err:
            if err.retryable:
                raise
            return self._do_without(turn, err)
        with self.parts.store.write() as session:
            row = session.get_one(Rotation, bmc.id)
            row.certificate, row.step, row.tries = certificate, S.CERTIFYING, 0
        return None

    def install(self, turn: Turn) -> Result:
        """What the BMC shows tells how far it is; a stranger's certificate gets no login."""
        wanted = fingerprint(turn.rotation.certificate)
        shown = self.parts.probe(turn.bmc.protocol, turn.bmc.address, PROBE_SECONDS)
        if shown is None:
            return Wait(f"BMC {turn.bmc.address} does not answer", AGAIN_SECONDS)
        if shown.fingerprint == wanted:
            return self._pin(turn, wanted)
        if shown.fingerprint != turn.bmc.fingerprint:
            return self.stranger(turn, shown)
        if turn.rotation.tries >= TRIES:
            told = f"BMC {turn.bmc.address} took a certificate and does not show it"
            return self._do_without(turn, BmcRefused(told, "Restart the BMC, then rotate again."))
        self.move(turn, S.CERTIFYING, tries=turn.rotation.tries + 1)
        try:
            self.protocol(turn).install_certificate(
                turn.contact, self.old(turn), turn.rotation.certificate, LOGIN_TIMEOUT
            )
        except BmcRefused as err:
            return self._do_without(turn, err)
        except BmcLoginRefused as err:
            raise self.refused(turn, err) from err
        except BmcError as err:  # BMCs that restart their web server may not even say yes
            log.info("certificate.lost", address=turn.bmc.address, problem=str(err))
        return Wait("the BMC takes its new certificate", SHOWN_SECONDS)

    def _pin(self, turn: Turn, wanted: str) -> Result:
        with self.parts.store.write() as session:
            row = session.get_one(Bmc, turn.bmc.id)
            row.fingerprint, row.certificate = wanted, turn.rotation.certificate
            rotation = session.get_one(Rotation, row.id)
            rotation.step, rotation.certificate = S.CERTIFIED, ""
            record(session, "bmc.certified", row.address, "a certificate of Seed's CA")
        return None

    def _do_without(self, turn: Turn, err: SeedError) -> Result:
        with self.parts.store.write() as session:
            row = session.get_one(Rotation, turn.bmc.id)
            row.step, row.certificate = S.CERTIFIED, ""
            record(session, "bmc.certificate-kept", turn.bmc.address, str(err), remedy=err.remedy)
        return None
