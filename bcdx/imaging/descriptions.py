"""SeriesDescription (and ImageType) of an MR series -> its plane, breast, kind and place before or after contrast.

Descriptions are free text of many hospitals: "LT SAG FSE T1", "fl3d_sag_interVIEWS gad LT", "1 MIN GAD SUB LT RADIAL".
They are brought to plain words first (`_REWRITES`), then read by tables: a value, and beside it the words that tell it.
Where words tell nothing, or two things at once, the answer is "unknown". Case makes no difference.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import get_args

from bcdx.config import Kind

UNKNOWN = "unknown"
KINDS: tuple[str, ...] = get_args(Kind)
"""In the order in which they apply: a MIP of a subtraction is a MIP, a reformatted subtraction a subtraction."""

CACHE_SIZE = 2**15
"""Distinct series that are remembered; a million series have some thousand distinct descriptions."""

LONGEST = 256
"""Characters that are read; a SeriesDescription has at most 64 (PS3.5, LO)."""


@dataclass(frozen=True)
class Description:
    """What a description tells.

    Attributes:
        plane: "sagittal", "axial", "coronal" or "unknown".
        laterality: "L", "R", "both" or "unknown".
        kind: One of `config.Kind`, or "unknown".
        contrast: "pre" or "post": acquired before or after contrast medium; or "unknown".
    """

    plane: str = UNKNOWN
    laterality: str = UNKNOWN
    kind: str = UNKNOWN
    contrast: str = UNKNOWN


_SIDE = r"(?:left|right|l ?t?|r ?t?|links|rechts)"
_REWRITES = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        # signs that mean something, before they become blanks
        (r"\)\s*-\s*\(", " minus "),
        (r"(t[12])[ _]?\*", r"\1star"),
        (r"(?<![a-z])c\+|\+[ _]?c(?![a-z])", " plusc "),
        (r"&", " and "),
        (r"(?<![a-z0-9])[lr][ _]?=[ _]?\w+", " "),  # R=2 is an acceleration
        (r"[^a-z0-9]+", " "),
        # words that are often glued to others
        (r"([23])d(?!yn|ay|el)", r" \1d "),
        (r"breast", " breast "),
        (r" +", " "),
        # sides that are directions, or not of a breast
        (rf"\b{_SIDE} to {_SIDE}\b|\b(?:l r|r l)\b", " "),
        (rf"\b{_SIDE} (?:and|und|et) {_SIDE}\b", " both "),
        (rf"\b{_SIDE} (?:arm|hand|iv|antecub\w*|obl\w*|blade|propeller)\b", " "),  # rt blade: respiratory trigger
        (r"\b(?:[lr] [os]|w [lr])\b|bright|upright|copyright|cleft", " "),  # rule out, lumbar spine, window level
        # before and after something else than contrast medium, or words that only look like time
        (r"\b(?:pre|post) (?:sat|op|surg\w*|needle|biopsy|clip|chemo\w*|nac|meno\w*|lmp)\b", " "),
        (r"\bpre (?:con|cont|contrast|gad\w*|gd)\b", " pre "),
        (r"\b(?:w|with) (?:and )?(?:wo|w o|without)\b", " prepost "),
        (r"\b(?:no|non|without|wo|w o|sin|sans|ohne) (?:contrast\w*|gad\w*|gd|km|injection)\b", " noncontrast "),
        (r"\b(?:no|without) delay\b", " "),
        (r"\b(?:in|out|opp|opposed) phase\b", " "),
        (r"\bto t[12]\b", " "),  # vertebrae
        (r"\bspin echo\b", "se"),
        (r" +", " "),
    )
)

Rules = tuple[tuple[str, re.Pattern[str]], ...]


def _make_rules(*rows: tuple[str, str]) -> Rules:
    """Compile rows of (value, words).

    Words are regular expressions between blanks, bounded by anything but letters. `~` stands for any letters, `_` for
    a blank or nothing, `#` for a number.
    """

    def compile_words(words: str) -> re.Pattern[str]:
        options = "|".join(words.split()).replace("~", "[a-z]*").replace("_", " ?").replace("#", r"\d+")
        return re.compile(rf"(?<![a-z])(?:{options})(?![a-z])")

    return tuple((value, compile_words(words)) for value, words in rows)


_PLANES = _make_rules(
    ("sagittal", r"~sag(?!e)~ sg"),
    ("axial", r"[sd]{0,2}ax(?:i|l|ls|e|es|post)? ax(?=t[12]) ~axial~ ~dwiaxi~ tra trans transv~ transax~"),
    ("coronal", r"s?cor ~coronal~ frontal"),
)
_MIP_ALONG = re.compile(r"mip (tra|ax\w*|cor\w*|sag\w*)$")
"""The scanner's own suffix for a projection, which counts more than the plane of what was projected."""

_LONE = r"(?<!\d){}(?!\d|\s\d+(?:\s|$))"
"""A letter on its own; with a number behind it, it may count anything."""

_SIDES = _make_rules(
    ("both", r"~bilat~ bil bi_lateral~ both beid~ bds"),
    ("L", r"~left~ lt (?:~sag|slope)lt links gauche izq~ izda esq~"),
    ("L", r"(?:sag|cor|tra|mama|mamma|brust)_li " + _LONE.format("l")),
    ("R", r"~right~ rt (?:~sag|slope)rt rechts droite? der(?:ech|eit)~ dcha direit~"),
    ("R", r"(?:sag|cor|tra|mama|mamma|brust)_(?:re|der) " + _LONE.format("r")),
)

_GLUED = r"(?:s|ss|opt|tse|fse|fs|~tse|senst?|breas)?"
"""What may stand before T1 or T2 without a gap."""

_KIND_WORDS = _make_rules(
    ("localizer", r"locs? locali[sz](?:er|ers|ing) locator scou~ sco surv~ 3_p 3_pl(?:ane|anes)? plan_scan scano~"),
    ("calibration", r"cal calib~ ref(?:erence)?_scan sense_ref coil_sens~ pre_scan phantom field_maps? ~b[01]_map~"),
    ("calibration", r"test_bolus bolus_test"),
    ("spectroscopy", r"mrsi? csi svs spectro~ press_# steam_#"),
    ("cad", r"(?:i|dyna)?cad(?:stream)? mammoview aegis pos_disp screen_sav~ screen_(?:shots?|cap~) secondary_capture"),
    ("cad", r"key_images? patient_protocol exam_cards? phoenix~ csa_report"),
    ("map", r"~adcc? apparent_diffusion (?:dwi|dti|diff)\s.*fa (?:dwi|voi|roi|tumou?r)_mask"),
    ("map", r"ser$ pe[1-9]$ ser_map wash_(?:in|out) ~slope~ kinetic~ msi ktrans kep auc ttp perf~"),
    ("map", r"t[12]_map~ maps? colou?r~ overlay fat_fraction"),
    ("mip", r"~mips? minip projections? pjn tumble rotat~ spin nodding up_shot"),
    ("subtraction", r"(?:s|ss|sgrad|right|left)?sub(?:s|t|ts|tr|tract~)? minus"),
    ("reformat", r"mpr(?!age)~ mrp reform~ radials? compos~ stitch~ thick_range"),
    ("unknown", r"recon.*(?:vibrant|vibe|dyn~) [de]wip.*"),  # the acquisition once more, or something made of it
    ("reformat", r"recons? reconstruct~"),
    ("diffusion", r"~dwi~ dwssfse diff diffusion dti~ tracew? b_val~ ivim tensor s{0,2}b_(?:50|[1-9]\d{2,3})"),
    ("t2", rf"{_GLUED}t2(?!\d|star|map)~ ~t?set2~ ~sag(?:ittal)?t2~ t?stir~ ~stir tirm"),
    ("unknown", r"greast fiesta~ balanced mre pilot label su"),  # contrast or purpose stay open
    ("t1", rf"{_GLUED}t1(?!\d|star|map|rho)~ vibrant? ~views~ ~vibe vib ~thrive ~spgr fl_[23]d flash mprage"),
    ("t1", r"fame lava bravo bliss rodeo tricks twist disco trak ~dyn ~dyna ~dynam~ dce mph multi_phase"),
    ("t1", r"pre ~post posts prepost (?:pre|post)(?:con~|gad~|gd|x|dyn) gad(?:o|olinium)? gd pg ce contrast plusc"),
    ("t1", r"pass phase_[1-9] (?<!\d)ph_# \d\s?min(?:ute)?(?:s|pause)? delay(?:ed)? venous arterial"),
    ("other", r"silicone? proton_density pd phase_contrast tof elasto~ t[12]star~ t1rho ~swi(?:p|te)? ~bold qmt asl"),
)

_CONTRAST = _make_rules(
    ("post", r"(?<!\d)ph_#"),  # GE's Ph1/..., Ph2/...: the phases after the first
    ("unknown", r"pre~.*post~ ~post.*pre~ prepost pre~\s.*(?:plusc|gad)"),
    ("pre", r"pre pre(?:con~|gad~|gd|dyn|x) noncontrast unenhanced nativ~ vor_km mask"),
    ("post", r"~post posts post(?:con~|gad~|gd|x|dyn) gad(?:o|olinium)? gd pg ce contrast plusc pass? (?:mit|nach)_km"),
    ("post", r"\d\s?min(?:ute)?(?:s|pause)? delay(?:ed)? venous arterial late immed [1-9](?:st|nd|rd|th)\s.*dyn"),
)
_WITHOUT_CONTRAST = ("localizer", "calibration", "spectroscopy", "cad", "map", "subtraction")
"""What tells nothing of one acquisition; a subtraction is of two."""

# Values of ImageType that say what was made of an acquisition. DERIVED, SECONDARY and PROCESSED say nothing: archives
# put them on plain images that they have rewritten.
_TYPES = {
    "localizer": "LOCALIZER",
    "calibration": "B0 MAP, B1 MAP, PHANTOM",
    "spectroscopy": "SPECTROSCOPY",
    "cad": "SCREEN SAVE, SCREENSHOT, CSA REPORT, REPORT, POSDISP, PROTOCOL",
    "map": "ADC, EADC, ADC MAP, FA, FA MAP, FRACT ANISO, T1 MAP, T2 MAP, TTP, PEI, WASH IN, WASH OUT, KTRANS, SLOPE",
    "mip": "MIP, MINIP, MIN IP, PROJECTION IMAGE, MAXIMUM",
    "subtraction": "SUB, SUBTRACT, SUBTRACTION",
    "reformat": "MPR, REFORMATTED, COMPOSED",
    "diffusion": "DIFFUSION, TRACEW, TRACE",
}
_TYPE_KINDS = {value: kind for kind, values in _TYPES.items() for value in values.split(", ")}
_OVERRULED = {UNKNOWN, "diffusion", "t1", "t2"}
"""Kinds of description that an ImageType of something derived beats: derived images often keep the name."""


def parse_description(text: str, image_type: Sequence[str] = ()) -> Description:
    """Return what an MR series' description tells; any text will do.

    Args:
        text: SeriesDescription, "" if missing.
        image_type: Values of ImageType, where a header is at hand.
    """
    return _parse(text, tuple(map(str, image_type)))


@lru_cache(maxsize=CACHE_SIZE)
def _parse(text: str, image_type: tuple[str, ...]) -> Description:
    words = _normalise(text)
    along = _MIP_ALONG.search(words)
    kind = _decide_kind(_find_first(_KIND_WORDS, words), image_type)
    return Description(
        plane=_find_only(_PLANES, along.group(1) if along else words),
        laterality=_find_only(_SIDES, words),
        kind=kind,
        contrast=UNKNOWN if kind in _WITHOUT_CONTRAST else _find_first(_CONTRAST, words),
    )


def _normalise(text: str) -> str:
    """Return lower-case words of a to z and digits with one blank between them; accents are dropped."""
    words = text[:LONGEST].lower()
    if not words.isascii():
        words = unicodedata.normalize("NFKD", words).encode("ascii", "ignore").decode().lower()
    for pattern, replacement in _REWRITES:
        words = pattern.sub(replacement, words)
    return words.strip()


def _find_first(rules: Rules, words: str) -> str:
    return next((value for value, pattern in rules if pattern.search(words)), UNKNOWN)


def _find_only(rules: Rules, words: str) -> str:
    """Return the one value that the words tell; two would be a contradiction."""
    found = {value for value, pattern in rules if pattern.search(words)}
    return found.pop() if len(found) == 1 else UNKNOWN


def _decide_kind(told: str, image_type: Iterable[str]) -> str:
    """Return the kind that the words tell, unless ImageType names something derived that they pass over."""
    named = {_TYPE_KINDS.get(value.strip().upper().replace("_", " "), UNKNOWN) for value in image_type} - {UNKNOWN}
    if not named or told not in _OVERRULED:
        return told
    kind = min(named, key=KINDS.index)
    return told if kind == "diffusion" and told != UNKNOWN else kind


def matches(patterns: Iterable[str], text: str) -> bool:
    """Return whether one of a recipe's regular expressions is found in a SeriesDescription, case ignored."""
    return any(re.search(pattern, text, re.IGNORECASE) for pattern in patterns)
