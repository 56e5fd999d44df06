"""Takes the v1 schemas of KubeRay's objects out of its CRDs: `make_kuberay_schemas.py CRD_FOLDER`.

CRD_FOLDER is `helm-chart/kuberay-operator/crds` of a checkout of ray-project/kuberay.
"""

import json
import sys
from pathlib import Path

import yaml

NAMES = {"RayCluster": "rayclusters", "RayJob": "rayjobs", "RayCronJob": "raycronjobs"}


def main(crds: Path, output: Path) -> None:
    for kind, plural in NAMES.items():
        text = (crds / f"ray.io_{plural}.yaml").read_text()
        crd = yaml.load(text, Loader=yaml.CSafeLoader)
        versions = {version["name"]: version for version in crd["spec"]["versions"]}
        schema = versions["v1"]["schema"]["openAPIV3Schema"]
        path = output / f"{kind}.v1.json"
        path.write_text(json.dumps(schema, separators=(",", ":"), sort_keys=True) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent / "kuberay")
