"""A new operator's first day, by the book: Kafka with TLS, logins and rights, of which the documented ones suffice; and
what is wrong is said, in the brokers' own words where it is theirs."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import confluent_kafka
import pytest

from deploy.local.stack import SANITIZERS, Service, Stack

from .client import Api, eventually
from .conftest import make_stack
from .rollouts import Rollouts
from .secured_kafka import Right, SecuredStack
from .service_faults import start
from .topics import cloudevent, produce, read_all

SCRAM_MENDED = 0x020601FF  # librdkafka 2.6.1


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    yield from make_stack("postgres", whole_product=True, kind=SecuredStack, migrators=1, billings=1)


def cli(stack: SecuredStack, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command as an operator with nothing but this environment runs it."""
    return subprocess.run(
        [str(stack.build / "tenantry"), *words],
        env={"PATH": os.environ.get("PATH", ""), **SANITIZERS, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def operator(stack: SecuredStack) -> dict[str, str]:
    """What an operator has beside the services' environment files."""
    return {
        "TENANTRY_URL": stack.services["gateway-0"].url,
        "TENANTRY_TOKEN": stack.settings["tokens"]["admin"],
        "TENANTRY_OPS_URL": ",".join(service.ops_url for service in stack.services.values()),
    }


def env_file(stack: SecuredStack, name: str) -> str:
    """The service's configuration as a file."""
    path = stack.root / f"{name}.env"
    path.write_text("".join(f"{key}={value}\n" for key, value in stack.environment(name, 0).items() if key != "PATH"))
    return str(path)


def run_service(stack: SecuredStack, name: str, *words: str, **other: str) -> subprocess.CompletedProcess[str]:
    """A process of the service that ends by itself."""
    return subprocess.run(
        [str(stack.build / f"tenantry-{name}"), *words],
        env={**stack.environment(name, 0), **other},
        capture_output=True,
        text=True,
        timeout=30,
    )


def found_by_doctor(done: subprocess.CompletedProcess[str], name: str) -> list[dict[str, Any]]:
    return [check for check in json.loads(done.stdout)["checks"] if check["name"] == name]


def not_ready(service: Service) -> dict[str, Any]:
    """What /readyz says once it says no."""
    ops = Api(service.ops_url, None)
    eventually(lambda: ops.get("/readyz").status == 503, 20, f"{service.name} is not ready")
    return dict(ops.get("/readyz").json)


def wait_for_reason(service: Service, code: str) -> str:
    eventually(lambda: not_ready(service).get("code") == code, 20, f"{service.name} says {code}")
    return str(not_ready(service)["detail"])


def test_the_documented_rights_suffice_for_all_that_the_services_do(stack: SecuredStack, api: Api) -> None:
    """`tenantry init` and the services have started by them already."""
    tenant = api.ready_tenant("Rightful Shop")
    assert api.wait_operation(api.command(tenant, "suspend").json["operation_id"])["state"] == "succeeded"
    produce(stack.kafka.bootstrap, "tenant.signup.v1", b"x", b"not JSON", cloudevent("tenant.signup.requested.v1"))
    produce(stack.kafka.bootstrap, "tenant.command.v1", b"x", b"{", cloudevent("tenant.suspend.requested.v1"))
    Rollouts(stack).completed(strategy="all")
    produce(stack.kafka.bootstrap, "tenant.migration.v1", b"x", b"{", cloudevent("migration.pause.requested.v1"))
    produce(stack.kafka.bootstrap, "billing.stripe.v1", b"x", b"{", cloudevent("billing.stripe.received.v1"))
    produce(stack.kafka.bootstrap, "billing.command.v1", b"x", b"{", cloudevent("billing.cancel.requested.v1"))
    letters = (
        "tenant.signup.v1.provisioner.dlq",
        "tenant.command.v1.provisioner.dlq",
        "tenant.migration.v1.migrator.dlq",
        "billing.stripe.v1.billing.dlq",
        "billing.command.v1.billing.dlq",
    )
    for topic in (*letters, "migration.runs.v1"):
        eventually(lambda t=topic: read_all(stack.kafka.bootstrap, t), 20, f"{topic} has a message")
    assert {record.key for record in read_all(stack.kafka.bootstrap, "tenant.events.v1")} >= {tenant.encode()}
    for service in stack.services.values():
        log = service.log_path.read_text()
        assert "uthorization failed" not in log and '"level":"error"' not in log, log


@pytest.mark.parametrize("login", ["provisioner", "migrator", "billing", "events"])
def test_nobody_but_the_gateway_may_write_what_stripe_has_said(stack: SecuredStack, login: str) -> None:
    codes = []
    producer = confluent_kafka.Producer({
        "bootstrap.servers": stack.secured.login_bootstrap, **stack.secured.client(login)
    })  # fmt: skip
    producer.produce("billing.stripe.v1", b"{}", on_delivery=lambda error, _: codes.append(error and error.code()))
    assert producer.flush(30) == 0
    assert codes == [confluent_kafka.KafkaError.TOPIC_AUTHORIZATION_FAILED]


def test_the_doctor_as_documented_finds_a_good_install_good(stack: SecuredStack) -> None:
    done = cli(stack, "doctor", "--json", TENANTRY_ENV_FILE=env_file(stack, "provisioner"), **operator(stack))
    bad = [check for check in json.loads(done.stdout)["checks"] if check["verdict"] == "bad"]
    assert done.returncode == 0 and not bad, bad
    assert found_by_doctor(done, "topics")[0]["verdict"] == "good"


def test_the_doctors_own_login_sees_what_it_must_and_says_what_it_may_not_see(stack: SecuredStack) -> None:
    catalog = {"CATALOG_DATABASE_URL": stack.catalog_url("gateway"), **operator(stack)}
    done = cli(stack, "doctor", "--json", **catalog, **stack.secured.environment("doctor"))
    assert [check["verdict"] for check in found_by_doctor(done, "topics")] == ["good"]
    done = cli(stack, "doctor", "--json", **catalog, **stack.secured.environment("nobody"))
    told_of = found_by_doctor(done, "topics")
    assert len(told_of) == 12 and all("may not see" in check["found"] for check in told_of), told_of


def test_events_are_followed_by_their_documented_rights(stack: SecuredStack, api: Api) -> None:
    api.ready_tenant("Told Shop")
    words = ("events", "tail", "--from-beginning", "--count", "1")
    done = cli(stack, *words, **stack.secured.environment("events"))
    assert done.returncode == 0 and done.stdout and "failed" not in done.stderr, done
    done = cli(stack, *words, **stack.secured.environment("nobody"))
    assert done.returncode == 4 and "uthorization" in done.stderr, done


def init(stack: SecuredStack, **environment: str) -> subprocess.CompletedProcess[str]:
    folder = str(stack.catalog_migrations)
    return cli(stack, "init", "--migrations", folder, **{**stack.admin_environment(), **environment})


WRONG = {
    "password": ({"sasl_password": "wrong-word"}, "kafka_login", 4, "Authentication failed"),
    "mechanism": ({"sasl_mechanisms": "SCRAM-SHA-512"}, "kafka_login", 4, "mechanism"),
    "authority": ({"ssl_ca_location": "/etc/ssl/certs/ca-certificates.crt"}, "kafka_tls", 4, "certificate"),
    "protocol": ({"security_protocol": "plaintext"}, "kafka_away", 6, "security.protocol"),
}


@pytest.mark.parametrize("what", WRONG)
def test_the_brokers_own_reason_is_said(stack: SecuredStack, what: str) -> None:
    other, code, status, words = WRONG[what]
    done = init(stack, **stack.secured.environment("init", **other))
    assert done.returncode == status and words in done.stderr, done
    done = cli(stack, "doctor", "--json", **operator(stack), **stack.secured.environment("doctor", **other))
    assert words in found_by_doctor(done, "kafka")[0]["found"] and "wrong-word" not in done.stdout + done.stderr
    services = [stack.services[f"{name}-0"] for name in ("gateway", "provisioner", "migrator")]
    for service in services:
        service.stop()
        service.restart(stack.secured.environment(service.name, **other))
    try:
        for service in services:
            assert words in wait_for_reason(service, code)
            assert "wrong-word" not in service.log_path.read_text()
    finally:
        for service in services:
            service.stop()
            service.environment.update(stack.secured.environment(service.name))
        start(*services)


def test_a_broker_that_is_not_there_is_told_from_one_that_refuses_us(stack: SecuredStack) -> None:
    done = init(stack, KAFKA_BROKERS="nowhere.invalid:9092")
    assert done.returncode == 6 and "host cannot be resolved" in done.stderr, done
    done = cli(stack, "doctor", "--json", KAFKA_BROKERS="127.0.0.1:1", **operator(stack))
    assert "Connection refused" in found_by_doctor(done, "kafka")[0]["found"]


def test_a_right_that_is_missing_is_named(stack: SecuredStack) -> None:
    provisioner = stack.services["provisioner-0"]
    provisioner.stop()
    nobody = stack.service("provisioner", 1, **stack.secured.environment("nobody"))
    try:
        nobody.start()
        assert "Group authorization failed" in wait_for_reason(nobody, "kafka_rights")
        stack.secured.allow([Right("nobody", "Read", "group", "tenantry-provisioner")])
        nobody.stop()
        nobody.start()
        eventually(lambda: "Topic authorization failed" in not_ready(nobody)["detail"], 20, "the topics are named too")
    finally:
        nobody.stop()
        del stack.services["provisioner-1"]
        start(provisioner)


def test_a_scram_that_these_brokers_refuse_is_known_beforehand(stack: SecuredStack) -> None:
    """With librdkafka from 2.6.1 on it works."""
    scram = {"sasl_mechanisms": "SCRAM-SHA-256", "sasl_username": "scram"}
    environment = stack.secured.environment("nobody", **scram)
    checked = run_service(stack, "gateway", "--check-config", **environment)
    assert checked.returncode == 0
    (kafka, *_) = found_by_doctor(cli(stack, "doctor", "--json", **operator(stack), **environment), "kafka")
    if confluent_kafka.libversion()[1] >= SCRAM_MENDED:
        assert kafka["verdict"] == "good" and "SCRAM" not in checked.stderr
    else:
        assert "OAUTHBEARER" in checked.stderr
        assert kafka["verdict"] == "bad" and "OAUTHBEARER" in kafka["advice"], kafka


@pytest.mark.parametrize("name", ["gateway", "provisioner", "migrator"])
def test_a_misspelt_variable_is_found_and_what_is_the_others_is_not_in_the_way(stack: SecuredStack, name: str) -> None:
    every = ("gateway", "provisioner", "migrator", name)
    all_of_them = {key: value for each in every for key, value in stack.environment(each, 0).items()}
    usual = {"HTTP_PROXY": "http://proxy", "RELEASE": "7", "TOKEN": "t", "LANG": "C", "HOSTNAME": "h", "LEASES": "mine"}
    assert run_service(stack, name, "--check-config", **all_of_them, **usual, LEASE="30s").returncode == 0
    found = run_service(stack, name, "--check-config", CATALOG_POOLSIZE="8")
    assert found.returncode == 2 and "CATALOG_POOLSIZE: did you mean CATALOG_POOL_SIZE?" in found.stderr
    environment = {**stack.environment(name, 0), "KAFKA_BROKER": "k:9092"}
    del environment["KAFKA_BROKERS"]
    found = subprocess.run(
        [str(stack.build / f"tenantry-{name}"), "--check-config"], env=environment, capture_output=True, text=True
    )
    assert found.returncode == 2 and "KAFKA_BROKER: did you mean KAFKA_BROKERS?" in found.stderr


def test_a_misspelt_property_is_found_by_name_and_no_secret_is_repeated(stack: SecuredStack) -> None:
    found = run_service(stack, "provisioner", "--check-config", KAFKA_PROPERTIES="security.protocoll=ssl")
    assert found.returncode == 2 and "security.protocol?" in found.stderr
    found = run_service(stack, "gateway", "--check-config", KAFKA_PROPERTIES="sasl.password=half;other-half=1")
    assert found.returncode == 2 and "other-half" not in found.stderr and "semicolon" in found.stderr


def test_a_port_that_is_taken_may_be_free_soon(stack: SecuredStack) -> None:
    """As while the process before still ends: a supervisor shall try again."""
    ended = run_service(stack, "provisioner", OPS_PORT=str(stack.services["gateway-0"].ops_port))
    assert ended.returncode == 1 and "Address already in use" in ended.stderr
    ended = run_service(stack, "provisioner", OPS_ADDRESS="no-address")
    assert ended.returncode == 2
