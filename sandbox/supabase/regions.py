"""The regions a project can live in, and the groups they belong to."""

from __future__ import annotations

from typing import Any

# code: (name, group, continent)
REGIONS: dict[str, tuple[str, str, str]] = {
    "us-east-1": ("East US (North Virginia)", "americas", "NA"),
    "us-east-2": ("East US (Ohio)", "americas", "NA"),
    "us-west-1": ("West US (North California)", "americas", "NA"),
    "us-west-2": ("West US (Oregon)", "americas", "NA"),
    "ca-central-1": ("Canada (Central)", "americas", "NA"),
    "sa-east-1": ("South America (São Paulo)", "americas", "SA"),
    "eu-central-1": ("Central EU (Frankfurt)", "emea", "EU"),
    "eu-central-2": ("Central Europe (Zurich)", "emea", "EU"),
    "eu-west-1": ("West EU (Ireland)", "emea", "EU"),
    "eu-west-2": ("West Europe (London)", "emea", "EU"),
    "eu-west-3": ("West EU (Paris)", "emea", "EU"),
    "eu-north-1": ("North EU (Stockholm)", "emea", "EU"),
    "ap-southeast-1": ("Southeast Asia (Singapore)", "apac", "AS"),
    "ap-southeast-2": ("Oceania (Sydney)", "apac", "OC"),
    "ap-northeast-1": ("Northeast Asia (Tokyo)", "apac", "AS"),
    "ap-northeast-2": ("Northeast Asia (Seoul)", "apac", "AS"),
    "ap-east-1": ("East Asia (Hong Kong)", "apac", "AS"),
    "ap-south-1": ("South Asia (Mumbai)", "apac", "AS"),
}
GROUPS = {"americas": "Americas", "emea": "Europe, Middle East, and Africa", "apac": "Asia-Pacific"}
CONTINENT_GROUP = {"NA": "americas", "SA": "americas", "AN": "americas", "EU": "emea", "AF": "emea"}
DEFAULT_GROUP = "americas"


def choose(wanted: dict[str, str], full: set[str]) -> str | None:
    """The region a new project gets for a `region_selection`, or None where all that fit are full."""
    if wanted["type"] == "specific":
        fitting = [wanted["code"]]
    else:
        fitting = [code for code, (_, group, _) in REGIONS.items() if group == wanted["code"]]
    return next((code for code in fitting if code not in full), None)


def available(continent: str | None, full: set[str]) -> dict[str, Any]:
    """The answer of GET /v1/projects/available-regions."""
    group = CONTINENT_GROUP.get(continent, "apac") if continent else DEFAULT_GROUP
    codes = [code for code in REGIONS if REGIONS[code][1] == group]
    return {
        "recommendations": {
            "smartGroup": _group(group),
            "specific": [_specific(code, full) for code in codes],
        },
        "all": {
            "smartGroup": [_group(code) for code in GROUPS],
            "specific": [_specific(code, full) for code in REGIONS],
        },
    }


def _group(code: str) -> dict[str, str]:
    return {"name": GROUPS[code], "code": code, "type": "smartGroup"}


def _specific(code: str, full: set[str]) -> dict[str, str]:
    row = {"name": REGIONS[code][0], "code": code, "type": "specific", "provider": "AWS"}
    return {**row, "status": "capacity"} if code in full else row
