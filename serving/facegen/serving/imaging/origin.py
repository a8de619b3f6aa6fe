"""Where a picture comes from, as an XMP packet.

Every encoded face says that a model made it, by IPTC's digital source type for synthetic media
(https://cv.iptc.org/newscodes/digitalsourcetype/), and in our own
namespace which model, seed and index.
"""

from dataclasses import dataclass
from functools import lru_cache
from xml.sax.saxutils import quoteattr

__all__ = ["NAMESPACE", "Origin", "xmp_packet"]

NAMESPACE = "urn:facegen:xmp:1#"

_HEAD = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about=""'
    ' xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
    ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
    f' xmlns:facegen="{NAMESPACE}"'
    ' xmp:CreatorTool="facegen"'
    " Iptc4xmpExt:DigitalSourceType="
    '"http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"'
)
_TAIL = '/></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'


@dataclass(frozen=True, slots=True)
class Origin:
    """What made a picture.

    Attributes:
        family: The model family.
        version: Its version.
        seed: The seed, if the face was drawn from a prior.
        index: The face's index under the seed.
    """

    family: str
    version: str
    seed: int | None = None
    index: int | None = None


def xmp_packet(origin: Origin) -> bytes:
    """Write the XMP packet of a synthetic picture (ISO 16684-1), UTF-8."""
    seed = "" if origin.seed is None else f' facegen:seed="{origin.seed}"'
    index = "" if origin.index is None else f' facegen:index="{origin.index}"'
    return f"{_head(origin.family, origin.version)}{seed}{index}{_TAIL}".encode()


@lru_cache(maxsize=64)
def _head(family: str, version: str) -> str:
    """Write what is the same for all faces of a family."""
    return f"{_HEAD} facegen:family={quoteattr(family)} facegen:version={quoteattr(version)}"
