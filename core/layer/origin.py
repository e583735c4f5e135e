"""The provenance that a delivery's files state: Vera's version, the model, its weights, and IPTC's term."""

from dataclasses import dataclass

from vera import __version__

_IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype"
# IPTC's NewsCodes "Digital Source Type": a picture with elements from a trained model, and one with elements of unknown
# origin, such as an edited video from elsewhere.
GENERATED = f"{_IPTC}/compositeWithTrainedAlgorithmicMedia"
NOT_KNOWN = f"{_IPTC}/composite"

# Option of FFmpeg's MP4 and MOV writer, which otherwise drops unknown names.
KEEP_TAGS = {"movflags": "use_metadata_tags"}


@dataclass(frozen=True)
class Origin:
    """model: name of the model or backend that made the layer
    weights: fingerprint of its weights; "" if no weights known to Vera made it
    source_type: full URI of IPTC's term
    """

    model: str = ""
    weights: str = ""
    source_type: str = NOT_KNOWN
    version: str = __version__

    @property
    def software(self) -> str:
        """Value of the attribute `Software`."""
        return f"Vera {self.version}"

    def attributes(self) -> dict[str, str]:
        """Attributes of image headers by name; the last one belongs to IPTC's schema."""
        named = {
            "Software": self.software,
            "vera/version": self.version,
            "vera/model": self.model,
            "vera/weights": self.weights,
            "Iptc4xmpExt:DigitalSourceType": self.source_type,
        }
        return {name: value for name, value in named.items() if value}

    def movie_tags(self) -> dict[str, str]:
        """Metadata of movies by name; players show the comment."""
        named = {
            "comment": f"{self.software}; {self.source_type}",
            "software": self.software,
            "vera_version": self.version,
            "vera_model": self.model,
            "vera_weights": self.weights,
            "digital_source_type": self.source_type,
        }
        return {name: value for name, value in named.items() if value}

    def to_json(self) -> dict[str, str]:
        """The manifest's entry."""
        return {
            "software": "Vera",
            "version": self.version,
            "model": self.model,
            "weights": self.weights,
            "digital_source_type": self.source_type,
        }


UNSTATED = Origin()  # origin of files that no job made
