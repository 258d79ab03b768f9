"""Would a TLS client verify this certificate? OpenSSL's own answer, without a connection.

What a key is for, how long it is, whose name it has, and since Python 3.13 a strict reading of
RFC 5280: the rules are many and OpenSSL's, so it is asked. A client in memory reads the first words
of a server that has this certificate.
"""

import ssl

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

# TLS 1.2 (RFC 5246): the version that shows a certificate before it proves the key.
RECORD, VERSION, HELLO, CERTIFICATE = b"\x16", b"\x03\x03", b"\x02", b"\x0b"
RSA_SUITE, EC_SUITE = b"\xc0\x2f", b"\xc0\x2b"  # TLS_ECDHE_{RSA,ECDSA}_WITH_AES_128_GCM_SHA256
NO_RENEGOTIATION = b"\xff\x01\x00\x01\x00"  # RFC 5746, 3.6: clients hang up on servers without it


def stands_alone(pem: str, address: str) -> bool:
    """Can a TLS client that trusts just this one verify it? Self-signed, valid, with the address.

    A name in the subject alone (as factories ship them) is no longer looked at: RFC 9525, 6.3.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        context = ssl.create_default_context(cadata=pem)
        words = _first_words(pem, isinstance(certificate.public_key(), rsa.RSAPublicKey))
    except (ValueError, OverflowError):  # ssl.SSLError is one, too: no certificate, or no real one
        return False
    context.verify_flags = ssl.VERIFY_X509_STRICT  # and no partial chain, which older ones refuse
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    heard = ssl.MemoryBIO()
    client = context.wrap_bio(heard, ssl.MemoryBIO(), server_hostname=address)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        heard.write(words)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:  # it goes on to the next word: the certificate is good
        return True
    except ssl.SSLError:
        return False
    return False


def _first_words(pem: str, is_rsa: bool) -> bytes:
    suite = RSA_SUITE if is_rsa else EC_SUITE
    hello = VERSION + bytes(32) + b"\0" + suite + b"\0" + _sized(NO_RENEGOTIATION, 2)
    chain = _sized(_sized(ssl.PEM_cert_to_DER_cert(pem), 3), 3)
    said = HELLO + _sized(hello, 3) + CERTIFICATE + _sized(chain, 3)
    return RECORD + VERSION + _sized(said, 2)


def _sized(data: bytes, width: int) -> bytes:
    return len(data).to_bytes(width, "big") + data
