"""Invitations and mail servers: nobody waits for a mail, and nobody gets one again and again."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.local.ports import reserve_port
from deploy.local.stack import CATALOG, Stack

from .client import Api, eventually
from .conftest import SHORT_LEASE, make_stack
from .invariants import rows
from .mail_server import MailServer, certificate, mail_server
from .service_faults import stopped, told
from .slowness import pulse_of


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Between the tests' mail servers there is none: what one left unsent waits for the next one's."""
    nowhere = f"smtp://127.0.0.1:{reserve_port()}"
    for made in make_stack("postgres", options={"LEASE": SHORT_LEASE, "JANITOR_INTERVAL": "1s", "SMTP_URL": nowhere}):
        yield made
        with mail_server() as server, sends_by(made, server):
            eventually(lambda stack=made: try_again(stack) == 0, 30, "all mails are sent")


def sends_by(stack: Stack, server: MailServer, **more: str) -> Any:
    return told(stack.services["provisioner-0"], SMTP_URL=server.url, **more)


def invitation_saga(stack: Stack, tenant: str) -> list[str]:
    """Status, code of the last error, minutes until it is tried again."""
    found = rows(
        stack,
        "select status, error ->> 'code', round(extract(epoch from next_at - clock_timestamp()) / 60), attempt "
        f"from provisioner.saga where tenant_id = '{tenant}' and kind = 'invite' order by created_at desc limit 1",
    )
    return found[0] if found else ["", "", "0", "0"]


def fails_with(stack: Stack, tenant: str, code: str) -> list[str]:
    return eventually(lambda: (seen := invitation_saga(stack, tenant))[1] == code and seen, 30, f"the mail is {code}")


def try_again(stack: Stack) -> int:
    """Nobody waits any longer; returns how many were waiting."""
    waiting = "update provisioner.saga set next_at = now() where status = 'running' returning 1"
    return int(stack.postgres.execute(f"with w as ({waiting}) select count(*) from w", CATALOG))


def open_alerts(api: Api) -> dict[str, dict[str, Any]]:
    return {alert["cause"]: alert for alert in api.get("/api/admin/alerts").json["items"]}


def test_an_invitation_is_text_and_html_in_which_no_name_is_markup(stack: Stack, api: Api) -> None:
    with mail_server() as server, sends_by(stack, server):
        tenant = api.ready_tenant("Bits & <b>Pieces</b>", name="Ada", email="ada@bits.test")
        [mail] = eventually(lambda: server.mails_to("ada@bits.test"), 20, "the invitation")
        text, html = (str(mail.get_body((kind,)).get_content()) for kind in ("plain", "html"))  # type: ignore[union-attr]
        assert mail["subject"] == "Bits & <b>Pieces</b> is ready"
        assert text.startswith("Hello Ada,\n\nBits & <b>Pieces</b> is ready for you.")
        assert "Bits &amp; &lt;b&gt;Pieces&lt;/b&gt; is ready for you." in html and "<b>" not in html
        link = text.partition("/invite/")[2].split()[0]
        assert link.startswith(tenant) and f'/invite/{link}"' in html


def test_the_operators_own_words_take_the_place_of_ours(stack: Stack, api: Api, tmp_path: Path) -> None:
    tmp_path.joinpath("invitation.txt").write_text(
        "Subject: Bienvenue\n\n{{company}}{{#name}} ({{name}}){{/name}}: {{link}}\n"
    )
    tmp_path.joinpath("invitation.html").write_text('<a href="{{link}}">{{company}}</a>')
    with mail_server() as server, sends_by(stack, server, MAIL_TEMPLATES=str(tmp_path)):
        api.ready_tenant("Chez Nous", email="ada@chez.test")
        [mail] = eventually(lambda: server.mails_to("ada@chez.test"), 20, "the invitation")
        assert mail["subject"] == "Bienvenue"
        assert str(mail.get_body(("plain",)).get_content()).startswith("Chez Nous: http")  # type: ignore[union-attr]


def test_words_that_cannot_be_right_are_found_before_the_start(stack: Stack, tmp_path: Path) -> None:
    tmp_path.joinpath("invitation.txt").write_text("Subject: Hi\n\n{{password}}\n")
    tmp_path.joinpath("invitation.html").write_text("")
    provisioner = stack.services["provisioner-0"]
    done = subprocess.run(
        [str(stack.build / "tenantry-provisioner"), "--check-config"],
        env={**provisioner.environment, "MAIL_TEMPLATES": str(tmp_path)},
        capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    assert done.returncode != 0
    assert "invitation.txt line 3: there is no password in this mail; there are name, company, link" in done.stderr


def test_a_mail_server_that_takes_three_seconds_for_its_last_word_holds_up_nobody(stack: Stack, api: Api) -> None:
    with mail_server(wait=3) as server, sends_by(stack, server):
        with pulse_of(stack.services["provisioner-0"]) as pulse:
            began = time.monotonic()
            tenants = [
                api.signup(f"Patient Shop {n}", email=f"boss{n}@patient.test").json["tenant_id"] for n in range(16)
            ]
            for tenant in tenants:
                api.wait_state(tenant, "ready", 12)
            took = time.monotonic() - began
            eventually(lambda: len(server.taken) >= 4, 20, "mails are on their way")
            server.wait = 0
            eventually(lambda: len(server.taken) == 16, 60, "all mails arrive")
        assert took < 24, f"16 signups took {took:.1f} s"
        assert pulse.slowest < 2.5, f"its health was told after {pulse.slowest:.1f} s"
        eventually(
            lambda: not rows(stack, "select 1 from provisioner.tenant where invite_sent < invite_wanted"),
            30,
            "all are known to be sent",
        )
        assert all(len(server.mails_to(f"boss{n}@patient.test")) == 1 for n in range(16)), "one mail each"
        assert stack.services["provisioner-0"].metrics()["tenantry_sagas_lost_total"] == 0


def test_with_the_mail_server_away_a_tenant_is_ready_and_its_mail_follows(stack: Stack, api: Api) -> None:
    signup = api.signup("Unmailed Shop", email="boss@unmailed.test").json
    tenant = signup["tenant_id"]
    assert api.wait_operation(signup["operation_id"])["state"] == "succeeded"
    assert api.tenant(tenant)["state"] == "ready"
    fails_with(stack, tenant, "mail_not_sent")
    stack.postgres.execute(
        f"update provisioner.saga set attempt = 30, next_at = now() where tenant_id = '{tenant}' and status = 'running'",
        CATALOG,
    )
    eventually(lambda: f"invitation:{tenant}" in open_alerts(api), 20, "after half an hour somebody is told")
    eventually(lambda: 5 < int(invitation_saga(stack, tenant)[2]) <= 10, 10, "it is tried on, rarely")
    with mail_server() as server, sends_by(stack, server):
        try_again(stack)
        eventually(lambda: server.mails_to("boss@unmailed.test"), 30, "the mail follows")
        eventually(lambda: f"invitation:{tenant}" not in open_alerts(api), 20, "the alert is over")


def test_a_mail_whose_end_is_doubtful_is_repeated_rarely_and_with_the_same_id(stack: Stack, api: Api) -> None:
    with mail_server(drop=True) as server, sends_by(stack, server):
        tenant = api.ready_tenant("Doubtful Shop", email="boss@doubtful.test")
        for times, minutes in ((1, 20), (2, 40)):
            waits = eventually(
                lambda times=times: (seen := invitation_saga(stack, tenant))[1:] and seen[3] == str(times) and seen,
                30,
                "its end is doubtful",
            )
            assert waits[1] == "mail_doubtful" and minutes - 2 <= int(waits[2]) <= minutes, waits
            assert len(server.taken) == times
            try_again(stack)
        eventually(lambda: f"invitation:{tenant}" in open_alerts(api), 20, "somebody is told")
        server.drop = False
        eventually(lambda: len(server.taken) == 3, 20, "it is sent once more")
        eventually(lambda: invitation_saga(stack, tenant)[0] == "done", 20, "and taken")
    assert len({mail["message-id"] for mail in server.taken}) == 1, "whoever has two can tell that they are one"


def test_a_mail_under_way_gives_way_to_a_suspension(stack: Stack, api: Api) -> None:
    with mail_server(hang=threading.Event()) as server, sends_by(stack, server):
        tenant = api.ready_tenant("Hanging Shop", email="boss@hanging.test")
        eventually(lambda: server.taken, 20, "the mail server has it and says nothing")
        ended = api.wait_operation(api.command(tenant, "suspend").json["operation_id"], 10)
        assert ended["state"] == "succeeded", ended
        assert api.wait_operation(api.command(tenant, "resume").json["operation_id"], 10)["state"] == "succeeded"


def test_an_alert_is_mailed_once_and_holds_up_no_other_channel(stack: Stack, api: Api) -> None:
    def told_at(number: int, channel: str) -> bool:
        sql = f"select {channel}_at is not null from catalog.alert where cause = 'test-mail:{number}'"
        return rows(stack, sql) == [["t"]]

    def raise_alert(number: int) -> None:
        stack.postgres.execute(f"select catalog.raise_alert('test-mail:{number}', null, 'a test', 'as asked')", CATALOG)

    with mail_server(hang=threading.Event()) as server, sends_by(stack, server, ALERT_MAIL="oncall@alert.test"):
        assert server.hang is not None
        # The process before had it, and it runs on for a quarter of a minute.
        stack.postgres.execute("update catalog.lease set until = now() where name = 'alerter'", CATALOG)
        raise_alert(1)
        eventually(lambda: server.mails_to("oncall@alert.test"), 30, "the mail server has it and says nothing")
        raise_alert(2)
        eventually(lambda: told_at(2, "log"), 20, "the log is told meanwhile")
        server.hang.set()
        eventually(lambda: told_at(1, "mail") and told_at(2, "mail"), 40, "both are known to be mailed")
        subjects = [mail["message-id"] for mail in server.mails_to("oncall@alert.test")]
        assert len(subjects) == len(set(subjects)), subjects
        stack.postgres.execute("update catalog.alert set resolved_at = now() where cause like 'test-mail:%'", CATALOG)


def test_a_service_whose_mail_server_hangs_ends_in_time(stack: Stack, api: Api) -> None:
    provisioner = stack.services["provisioner-0"]
    with mail_server(hang=threading.Event()) as server, sends_by(stack, server):
        tenant = api.ready_tenant("Stopping Shop", email="boss@stopping.test")
        eventually(lambda: server.mails_to("boss@stopping.test"), 20, "the mail server has it and says nothing")
        began = time.monotonic()
        assert provisioner.stop(20), "it did not end by itself"
        took = time.monotonic() - began
        assert took < 9 + 2, f"it took {took:.1f} s to end"  # nine by its own deadlines; two for a crowded machine
    with mail_server() as server, sends_by(stack, server):
        eventually(lambda: server.mails_to("boss@stopping.test"), 30, "the mail is sent by whoever comes next")
        eventually(lambda: invitation_saga(stack, tenant)[0] == "done", 20, "and taken")


def test_a_mail_that_was_taken_is_sent_though_the_server_does_not_say_goodbye(stack: Stack, api: Api) -> None:
    with mail_server(silent_goodbye=True) as server, sends_by(stack, server):
        tenant = api.ready_tenant("Rude Shop", email="boss@rude.test")
        eventually(lambda: invitation_saga(stack, tenant)[0] == "done", 10, "the mail is known to be sent")
        assert len(server.mails_to("boss@rude.test")) == 1


def test_a_refused_address_leaves_the_tenant_ready_and_is_told(stack: Stack, api: Api) -> None:
    with mail_server(refuse="550 5.1.1 no such user") as server, sends_by(stack, server):
        tenant = api.ready_tenant("Mistyped Shop", email="boss@mistyped.test")
        alert = eventually(lambda: open_alerts(api).get(f"tenant-invite:{tenant}"), 20, "somebody is told")
        assert "550" in alert["detail"]
        ended = api.wait_operation(api.command(tenant, "resend-invite").json["operation_id"])
        assert ended["state"] == "failed" and "550" in ended["detail"], ended
        server.refuse = ""
        ended = api.wait_operation(api.command(tenant, "resend-invite").json["operation_id"])
        assert ended["state"] == "succeeded", ended
        eventually(lambda: f"tenant-invite:{tenant}" not in open_alerts(api), 20, "the alert is over")
    assert api.tenant(tenant)["state"] == "ready"


def test_a_refused_login_at_the_mail_server_is_everybodys_waiting_with_one_alert(stack: Stack, api: Api) -> None:
    with mail_server(login="535 5.7.8 bad credentials") as server:
        server_login = {"SMTP_USER": "tenantry", "SMTP_PASSWORD": "old"}
        tls, server.tls = certificate_of(stack)
        with sends_by(stack, server, SMTP_CA=str(tls), **server_login):
            tenants = [api.ready_tenant(f"Locked Shop {n}", email=f"boss{n}@locked.test") for n in range(2)]
            for tenant in tenants:
                fails_with(stack, tenant, "mail_login")
            alert = eventually(lambda: open_alerts(api).get("held:provisioner:mail-login"), 20, "somebody is told")
            assert "535" in alert["detail"] and "old" not in alert["detail"]
            server.login = "235 welcome"
            try_again(stack)
            eventually(lambda: len(server.taken) == 2, 20, "both go out")
    assert all(server.encrypted), "a password goes to nobody in clear"


def certificate_of(stack: Stack) -> Any:
    folder = stack.root / "tls"
    folder.mkdir(exist_ok=True)
    return certificate(folder)


def test_with_its_authority_named_a_mail_server_must_prove_itself(stack: Stack, api: Api, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    ca, context = certificate(tmp_path)
    with mail_server(tls=context) as server:
        with sends_by(stack, server):
            tenant = api.ready_tenant("Encrypted Shop", email="boss@encrypted.test")
            fails_with(stack, tenant, "mail_login")
            assert not server.taken, "nothing is said to a server that nobody vouches for"
        with sends_by(stack, server, SMTP_CA=str(ca)):
            try_again(stack)
            eventually(lambda: server.mails_to("boss@encrypted.test"), 20, "the mail arrives")
        assert server.encrypted == [True]
    with mail_server() as server, sends_by(stack, server, SMTP_CA=str(ca)):
        tenant = api.ready_tenant("Stripped Shop", email="boss@stripped.test")
        fails_with(stack, tenant, "mail_login")
        assert not server.taken, "TLS is demanded of a server whose authority is named"
    with mail_server() as server, sends_by(stack, server):
        try_again(stack)
        eventually(lambda: server.mails_to("boss@stripped.test"), 20, "the mail arrives")


def test_a_provisioning_that_an_earlier_version_left_at_its_mail_comes_to_its_end(stack: Stack, api: Api) -> None:
    provisioner = stack.services["provisioner-0"]
    with mail_server() as server, sends_by(stack, server):
        tenant = api.ready_tenant("Earlier Shop", email="boss@earlier.test")
        eventually(lambda: invitation_saga(stack, tenant)[0] == "done", 20, "its own mail is sent")
    with stopped(provisioner):
        stack.postgres.execute(
            f"""
            delete from provisioner.saga where tenant_id = '{tenant}' and kind = 'invite';
            update provisioner.saga set status = 'running', step = 'invite', finished_at = null, next_at = now()
            where tenant_id = '{tenant}' and kind = 'provision';
            update provisioner.tenant set state = 'provisioning', invite_sent = 0 where tenant_id = '{tenant}';
            insert into catalog.tenant_claim (tenant_id, kind, holder)
            select tenant_id, 'provision', saga_id from provisioner.saga where tenant_id = '{tenant}';
            delete from catalog.tenant_event where tenant_id = '{tenant}' and type = 'tenant.state.changed.v1'
            and data ->> 'to' = 'ready'
            """,
            CATALOG,
        )
    api.wait_state(tenant, "ready", 20)
    with mail_server() as server, sends_by(stack, server):
        try_again(stack)
        eventually(lambda: invitation_saga(stack, tenant)[0] == "done", 20, "the mail follows")


def test_the_configuration_names_a_mail_server_or_authority_that_cannot_be(stack: Stack) -> None:
    provisioner = stack.services["provisioner-0"]
    for name, value in (("SMTP_URL", "mail.example.com:587"), ("SMTP_CA", "/nonexistent/ca.pem")):
        done = subprocess.run(
            [str(stack.build / "tenantry-provisioner"), "--check-config"],
            env={**provisioner.environment, name: value},
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 2 and name in done.stderr, done
