"""Where a picture comes from, as an XMP packet.

Every encoded face says that a model made it, or edited it, by IPTC's digital source type
(https://cv.iptc.org/newscodes/digitalsourcetype/), and in our own namespace which model, seed,
index, expression and moves.
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
)
_SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_MADE, _EDITED = "trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia"
_TAIL = '/></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'


@dataclass(frozen=True, slots=True)
class Origin:
    """What made a picture.

    Attributes:
        family: The model family.
        version: Its version.
        seed: The seed, if the face was drawn from a prior.
        index: The face's index under the seed.
        expression: The expression drawn, if the family has several.
        strength: How much of it was given to the faces of a photo.
        moves: Along which directions its latent was moved, for example `Smiling=1 component-2=-3`.
        edited: Whether the model changed a photo, rather than made the whole picture.
    """

    family: str
    version: str
    seed: int | None = None
    index: int | None = None
    expression: str = ""
    strength: float | None = None
    moves: str = ""
    edited: bool = False


def xmp_packet(origin: Origin) -> bytes:
    """Write the XMP packet of a synthetic or edited picture (ISO 16684-1), UTF-8."""
    head = _head(origin.family, origin.version, origin.edited)
    seed = "" if origin.seed is None else f' facegen:seed="{origin.seed}"'
    index = "" if origin.index is None else f' facegen:index="{origin.index}"'
    expression = origin.expression and f" facegen:expression={quoteattr(origin.expression)}"
    strength = "" if origin.strength is None else f' facegen:strength="{origin.strength:g}"'
    moves = origin.moves and f" facegen:moves={quoteattr(origin.moves)}"
    return f"{head}{seed}{index}{expression}{strength}{moves}{_TAIL}".encode()


@lru_cache(maxsize=64)
def _head(family: str, version: str, edited: bool) -> str:
    """Write what is the same for all faces of a family."""
    source = f'"{_SOURCE_TYPES}{_EDITED if edited else _MADE}"'
    names = f"facegen:family={quoteattr(family)} facegen:version={quoteattr(version)}"
    return f"{_HEAD}{source} {names}"
