"""ray_config.yaml is what Ray's launcher accepts, costs what it says, and is closed to strangers.

The launcher itself runs in a process of its own, against moto's AWS: it writes keys into the home folder, and this
process is to stay without Ray.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from artray import config

ROOT = Path(__file__).parents[2]
FILE = ROOT / "ray_config.yaml"
CONSTRAINTS = ROOT / "constraints.txt"

LAUNCH = """
import copy, json, logging, sys
import boto3, yaml
from moto import mock_aws
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.tags import TAG_RAY_NODE_KIND, TAG_RAY_USER_NODE_TYPE

prepared = prepare_config(yaml.safe_load(sys.stdin.read()))
validate_config(prepared)
bare = copy.deepcopy(prepared)
for group in bare["available_node_types"].values():
    group["resources"] = {}
with mock_aws():
    iam = boto3.client("iam")
    for name in ("head", "worker"):
        iam.create_policy(PolicyName=name, PolicyDocument=open(f"cluster/iam/{name}.json").read())
        iam.create_instance_profile(InstanceProfileName="artray-" + name)
    machines = AWSNodeProvider.fillout_available_node_types_resources(bare)["available_node_types"]
    ready = AWSNodeProvider.bootstrap_config(prepared)
    provider = AWSNodeProvider(ready["provider"], ready["cluster_name"])
    for name, group in ready["available_node_types"].items():
        kind = "head" if name == ready["head_node_type"] else "worker"
        provider.create_node(group["node_config"], {TAG_RAY_USER_NODE_TYPE: name, TAG_RAY_NODE_KIND: kind}, 1)
    ec2 = boto3.client("ec2")
    nodes = [node for r in ec2.describe_instances()["Reservations"] for node in r["Instances"]]
    rules = [rule for group in ec2.describe_security_groups()["SecurityGroups"] for rule in group["IpPermissions"]]
answer = {
    "machines": {name: group["resources"] for name, group in machines.items()},
    "nodes": {
        next(tag["Value"] for tag in node["Tags"] if tag["Key"] == TAG_RAY_USER_NODE_TYPE): node for node in nodes
    },
    "rules": rules,
}
print("ANSWER" + json.dumps(answer, default=str))
"""


def schema() -> dict[str, Any]:
    """Ray's own schema of launcher files, found without importing Ray."""
    spec = find_spec("ray")
    if spec is None or spec.origin is None:
        pytest.skip("needs Ray")
    found: dict[str, Any] = json.loads((Path(spec.origin).parent / "autoscaler" / "ray-schema.json").read_text())
    return found


def keys(value: Any) -> Iterator[str]:
    """Every key of a tree of mappings and lists."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner)


def strings(value: Any) -> Iterator[str]:
    """Every string value of a tree of mappings and lists."""
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from strings(inner)


def uncommented() -> str:
    """The file with every commented key in force, and keys that this repeats left as they are."""
    known = {*keys(schema()), "SubnetIds", "SecurityGroupIds", "KeyName", "image"}
    lines = []
    for line in FILE.read_text().splitlines():
        key = re.fullmatch(r"(\s*)# (\s*)(\w+):( .*)?", line)
        lines.append(line.replace("# ", "", 1) if key and key[3] in known else line)
    return "\n".join(lines)


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return values


@pytest.fixture(scope="module")
def workers(cluster: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {n: group for n, group in cluster["available_node_types"].items() if n != cluster["head_node_type"]}


def launch(text: str, home: Path) -> dict[str, Any]:
    """What Ray's AWS provider makes of a launcher file, in moto's AWS."""
    pytest.importorskip("moto", reason="needs moto")
    fake = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "simulated")
    environment = (
        os.environ | fake | {"AWS_DEFAULT_REGION": yaml.safe_load(text)["provider"]["region"], "HOME": str(home)}
    )
    done = subprocess.run(
        [sys.executable, "-c", LAUNCH],
        input=text,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer: dict[str, Any] = json.loads(done.stdout.split("ANSWER")[1])
    return answer


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return launch(FILE.read_text(), tmp_path_factory.mktemp("home"))


def test_rays_schema_accepts_it_and_every_option_that_it_offers(cluster: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(cluster, schema())
    full = yaml.safe_load(uncommented())
    jsonschema.validate(full, schema())
    assert full["docker"]["image"], "the test no longer finds the commented keys"
    assert full["provider"]["use_internal_ips"] is True


def test_every_field_of_rays_schema_is_there_or_offered() -> None:
    ours = set(yaml.safe_load(uncommented()))
    # no_restart is a flag of `ray up`, not for users; metadata is not read by Ray
    assert set(schema()["properties"]) - ours == {"no_restart", "metadata"}


def test_counts_of_workers_are_ordered_and_start_at_zero(cluster: dict[str, Any], workers: dict[str, Any]) -> None:
    for group in workers.values():
        assert 0 <= group["min_workers"] <= group["max_workers"] <= cluster["max_workers"]
    assert sum(group["max_workers"] for group in workers.values()) == cluster["max_workers"]
    assert sum(group["min_workers"] for group in workers.values()) == 0, "an idle cluster costs its head alone"


def test_the_head_takes_no_work_and_is_not_spot(cluster: dict[str, Any], launched: dict[str, Any]) -> None:
    head = cluster["available_node_types"][cluster["head_node_type"]]
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    assert "GPU" not in launched["machines"][cluster["head_node_type"]], "its machine has none to pay for"
    assert "InstanceLifecycle" not in launched["nodes"][cluster["head_node_type"]]


def test_groups_offer_what_their_machines_have(workers: dict[str, Any], launched: dict[str, Any]) -> None:
    for name, group in workers.items():
        machine = launched["machines"][name]
        assert group["resources"] == {"CPU": machine["CPU"], "GPU": machine.get("GPU", 0)}


@pytest.mark.parametrize("profile", ["defaults", *config.shipped()])
def test_every_shipped_profiles_actors_fit_on_some_group(profile: str, workers: dict[str, Any]) -> None:
    loaded = config.Profile(name="defaults") if profile == "defaults" else config.load(profile)
    needs = {"CPU": loaded.pipeline.cpus_per_actor, "GPU": loaded.pipeline.gpus_per_actor}
    assert any(all(group["resources"][k] >= needs[k] for k in needs) for group in workers.values())


def test_workers_are_spot_and_every_node_may_read_the_archive(
    workers: dict[str, Any], launched: dict[str, Any]
) -> None:
    nodes = launched["nodes"]
    assert {name for name, node in nodes.items() if node.get("InstanceLifecycle") == "spot"} == set(workers)
    assert nodes["head"]["IamInstanceProfile"]["Arn"].endswith("/artray-head")
    assert all(nodes[name]["IamInstanceProfile"]["Arn"].endswith("/artray-worker") for name in workers)


def test_no_role_may_more_than_it_needs() -> None:
    statements = {
        name: json.loads((ROOT / "cluster" / "iam" / f"{name}.json").read_text())["Statement"]
        for name in ("head", "worker")
    }
    anywhere = [s["Sid"] for name in statements for s in statements[name] if s["Resource"] == "*"]
    assert anywhere == ["StartAndEndWorkers"]
    writable = [s["Resource"] for s in statements["worker"] if "s3:PutObject" in s["Action"]]
    assert writable == ["arn:aws:s3:::STORE-BUCKET/*"], "the archive is never written to"
    assert statements["head"][: len(statements["worker"])] == statements["worker"]


def test_nodes_give_credentials_to_no_plain_request(launched: dict[str, Any]) -> None:
    assert {node["MetadataOptions"]["HttpTokens"] for node in launched["nodes"].values()} == {"required"}


def test_only_ssh_is_open_to_the_outside(launched: dict[str, Any]) -> None:
    open_rules = [rule for rule in launched["rules"] if rule["IpRanges"] or rule["Ipv6Ranges"]]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in open_rules] == [(22, 22)]


def test_ray_starts_with_a_token_and_a_closed_dashboard(cluster: dict[str, Any]) -> None:
    head, worker = cluster["head_start_ray_commands"], cluster["worker_start_ray_commands"]
    starts = [command for command in head + worker if "ray start" in command]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert not any("0.0.0.0" in text for text in strings(cluster))
    assert cluster["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"


def test_artrays_own_settings_are_not_in_it(cluster: dict[str, Any]) -> None:
    assert not set(config.Profile.model_fields) & set(keys(cluster))
    assert not any("--profile" in text or "--set" in text for text in strings(cluster))


def test_constraints_pin_every_dependency() -> None:
    # nodes and the machine that submits must have equal versions of Ray and Python
    listed = (ROOT / "pyproject.toml").read_text().split("\ndependencies = [\n")[1].split("\n]")[0]
    needed = {re.match(r'\s*"([\w.-]+)', line)[1] for line in listed.splitlines()}  # type: ignore[index]
    pinned = set(re.findall(r"^([\w.-]+)(?:\[.*\])?==", CONSTRAINTS.read_text(), re.MULTILINE))
    assert {normal(name) for name in needed} <= {normal(name) for name in pinned}


def normal(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_local_sides_of_the_file_mounts_exist_or_are_said_how_to_make(cluster: dict[str, Any]) -> None:
    made = {"dist": "pip wheel", "~/.ray/auth_token": "ray get-auth-token --generate"}
    for local in cluster["file_mounts"].values():
        assert (ROOT / local).exists() if local not in made else made[local] in FILE.read_text()
