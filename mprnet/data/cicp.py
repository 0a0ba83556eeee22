"""Colours that are named by code points (ITU-T H.273), in PNG, HEIF and AVIF files, as profiles."""

from mprnet.data import icc

_D65 = icc.SRGB_CHROMATICITIES[:2]
_SMPTE_170M: icc.Chromaticities = (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070)
_PRIMARIES: dict[int, icc.Chromaticities] = {
    1: icc.SRGB_CHROMATICITIES,
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: _SMPTE_170M,
    7: _SMPTE_170M,
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
_BT709_CURVE: icc.Curve = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
_CURVES: dict[int, icc.Curve] = {
    **dict.fromkeys((1, 6, 14, 15), _BT709_CURVE),
    4: (2.2,),
    5: (2.8,),
    8: (1.0,),
    13: icc.SRGB_CURVE,
}


def cicp_profile(primaries: int, transfer: int, grey: bool = False) -> bytes | None:
    """Return a profile of these code points; None if a profile cannot state them, such as those of HDR."""
    if primaries not in _PRIMARIES or transfer not in _CURVES:
        return None
    tag = icc.curve_tag(_CURVES[transfer])
    return icc.grey_profile(tag) if grey else icc.rgb_profile(_PRIMARIES[primaries], [tag])
