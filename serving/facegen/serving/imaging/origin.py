"""Where a picture comes from, as an XMP packet.

Every encoded face says that a model made it, by IPTC's digital source type for synthetic media
(https://cv.iptc.org/newscodes/digitalsourcetype/), and in our own
namespace which model, seed and index.
"""

from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

__all__ = ["NAMESPACE", "Origin", "xmp_packet"]

NAMESPACE = "urn:facegen:xmp:1#"

_PACKET = (
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
    "{properties}/>"
    '</rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
)


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
    facts = {
        "family": origin.family,
        "version": origin.version,
        "seed": origin.seed,
        "index": origin.index,
    }
    properties = "".join(
        f" facegen:{name}={quoteattr(str(value))}"
        for name, value in facts.items()
        if value is not None
    )
    return _PACKET.replace("{properties}", properties).encode()
