"""The files that visitors see and download: kept by Gradio, which deletes them after a while."""

import io
import zipfile
from collections.abc import Mapping

from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

__all__ = ["keep", "keep_archive"]


def keep(name: str, data: bytes) -> str:
    """Keep a file for the page, and give its path."""
    path: str = save_bytes_to_cache(data, name, get_upload_folder())
    return path


def keep_archive(name: str, files: Mapping[str, bytes]) -> str:
    """Keep a ZIP file of files, which are packed already, and give its path."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for each, data in files.items():
            archive.writestr(zipfile.ZipInfo(each), data)
    return keep(name, packed.getvalue())
