"""A clip from the GPU image, on this machine's processor: the pod of k8s/base/gpu-pod.yaml, played by podman.

The image is that of `scripts/build_images.sh gpu`, with the CPU's build of torch on a base without CUDA. The checkpoint
is tiny and random, made by the image itself; user, root, capabilities and command are those of the manifest. For root.

    python scripts/try_gpu_image.py
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import yaml
from podman_cluster import Document, Podman, pod_of

from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.synthesis.job import collect, make_job
from ettametta_pipelines.synthesis.requests import ClipRequest, ClipResult

ROOT = Path(__file__).resolve().parents[1]
IMAGE, NAME = "localhost/ettametta-gpu:dev", "ettametta-gpu-trial"
MODEL = "ltx-2-distilled"
USER = 10001
TINY = ROOT / "ettametta_pipelines_tests/synthesis/gpu/tiny_models.py"


def worker_pod(job_key: str, directory: Path) -> Document:
    """The manifest's pod, with a directory of this machine for its claim and its store."""
    template = yaml.safe_load((ROOT / "k8s/base/gpu-pod.yaml").read_text())["template"]
    (worker,) = template["spec"]["containers"]
    del worker["envFrom"]
    worker["image"], worker["args"] = IMAGE, ["--job", f"store:{job_key}"]
    worker["env"] += [
        {"name": "ETTAMETTA_STORE", "value": "file:///srv/store"},
        {"name": "OMP_NUM_THREADS", "value": "2"},
    ]
    worker["volumeMounts"].append({"name": "store", "mountPath": "/srv/store"})
    volumes = [volume for volume in template["spec"]["volumes"] if volume["name"] != "models"]
    for name in ("models", "store"):
        volumes.append({"name": name, "hostPath": {"path": str(directory / name), "type": "Directory"}})
    template["spec"]["volumes"] = volumes
    return pod_of(NAME, template, namespace="ettametta", forever=False)


def main() -> int:
    images = Path(os.environ.get("IMAGES_DIR", ROOT / ".ettametta/images")).resolve()
    with tempfile.TemporaryDirectory(prefix="ettametta-gpu-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        for part in ("models", "store"):
            (directory / part).mkdir()
            os.chown(directory / part, USER, USER)
        podman = Podman(str(images / "podman"), directory)
        podman("run", "--rm", "--network=none", "--read-only", "--tmpfs=/tmp", f"--volume={TINY}:/tiny_models.py:ro",
               f"--volume={directory}/models:/models", IMAGE, "python", "/tiny_models.py", "/models/made")  # fmt: skip
        for checkpoint in (directory / "models/made").iterdir():
            checkpoint.rename(directory / "models" / checkpoint.name)
        store = ObjectStore.from_url((directory / "store").as_uri())
        job = make_job("trial", "gpu", MODEL, [ClipRequest("a red kite", 0.4, 64, 64, fps=24, seed=1)])
        store.put(job.key, job.as_json())
        for path in (directory / "store").rglob("*"):
            os.chown(path, USER, USER)
        try:
            podman.play(worker_pod(job.key, directory), [])
            begun, state = time.monotonic(), {"Status": "created"}
            while state["Status"] != "exited" and time.monotonic() - begun < 600:
                time.sleep(1)
                state = (podman.container(NAME) or {"State": state})["State"]
            said = podman.log(NAME)
            made = collect(store, job)
        finally:
            podman.remove(NAME)
        if state.get("ExitCode") != 0 or not isinstance(made[0], ClipResult):
            sys.stdout.write(f"NOT  the worker made no clip: {json.dumps(state)}\n{said}\n")
            return 1
        clip = made[0]
        took = time.monotonic() - begun
        sys.stdout.write(
            f"ok   a pod of the GPU image made {clip.frames} frames of {clip.width}x{clip.height} in {took:.0f} s: "
            f"{store.head(clip.object_key).size} bytes\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
