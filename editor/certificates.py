"""Certificates that the environment names, seen before they are used: each library fails in words of its own."""

import os
import ssl
from pathlib import Path

from .errors import MonoglotError

FILE, FOLDER = "SSL_CERT_FILE", "SSL_CERT_DIR"  # what Python's ssl, httpx and Rust's clients read


def check_certificates(error: type[MonoglotError]) -> None:
    """Raise `error` where SSL_CERT_FILE is no file of certificates, or SSL_CERT_DIR no folder."""
    if (file := os.environ.get(FILE)) and (why := _why_not(Path(file))):
        raise error(
            f"{FILE} is {file}, which {why}, so neither the Hub nor others can be trusted. Unset it, or name such a file."
        )
    if (folder := os.environ.get(FOLDER)) and not any(Path(one).is_dir() for one in folder.split(os.pathsep)):
        raise error(
            f"{FOLDER} is {folder}, which is no folder, so neither the Hub nor others can be trusted. Unset it, or name one."
        )


def _why_not(file: Path) -> str | None:
    if not file.exists():
        return "is not there"
    if file.is_dir():
        return f"is a folder ({FOLDER} would take one)"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
    except PermissionError:
        return "may not be read"
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        return "holds no certificates (PEM)"
    return None
