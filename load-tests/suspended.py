#!/usr/bin/env python3
"""A suspended connection: events pile up as one row per record, the credentials are repaired, everything drains.

    load-tests/suspended.py                                   50 000 events of 1 000 records, no limit of calls
    load-tests/suspended.py --events 5000 --records 200       smaller
    load-tests/suspended.py --calls-per-second 50 --workers 2 the drain must keep to the budget

Starts a simulator, a keeper and workers of its own on a database and a queue prefix of its own, and removes both. Needs
KURIR_DATABASE_URL and KURIR_AMQP_URL (`make dev`, or `deploy/local/stack.sh run load-tests/suspended.py`) and a built
binary (`cargo build --release -p kurir`, or KURIR_BIN). Exit: 0 everything drained and every record has its newest
content, 1 something is left behind, is not the newest or was made twice, 2 the test could not run.
"""

import argparse
import datetime
import glob
import json
import os
import pathlib
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
TENANT = "load"
COMPANY = "4711"
WORKER = "metakocka-sync"
# Everything that is waited for.
LIMIT_SECONDS = 900
# Between two looks.
LOOK = 0.25
# Each waits for the confirm of an event before it sends the next one.
PUBLISHERS = 24
# Between what the settings allow in a second and what a minute of counting may show.
RATE_SLACK = 1.05


def binary():
    for path in (os.environ.get("KURIR_BIN"), ROOT / "target/release/kurir", ROOT / "target/debug/kurir"):
        if path and pathlib.Path(path).exists():
            return str(path)
    sys.exit("no kurir binary: cargo build --release -p kurir, or set KURIR_BIN")


def psql():
    found = shutil.which("psql") or next(iter(sorted(glob.glob("/usr/lib/postgresql/*/bin/psql"), reverse=True)), None)
    return found or sys.exit("psql is not installed")


def tax_number(n):
    """A valid Slovenian one; another one for each n."""
    seven = 1_000_000 + n * 10
    while True:
        check = 11 - sum(int(digit) * weight for digit, weight in zip(str(seven), range(8, 1, -1))) % 11
        if check == 11:
            seven += 1
            continue
        return f"SI{seven}{0 if check == 10 else check}"


def event(record, version, begin):
    time_of = (begin + datetime.timedelta(milliseconds=version)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {
        "specversion": "1.0",
        "id": f"{record}-v{version}",
        "source": f"urn:kurir:{TENANT}:crm:default",
        "type": "crm.contact.created.v1" if version == 1 else "crm.contact.updated.v1",
        "subject": f"contact/org-{record}",
        "time": time_of,
        "datacontenttype": "application/json",
        "tenantid": TENANT,
        "data": {"contact": {"id": f"org-{record}", "kind": "organization", "name": name(record, version), "tax_id": tax_number(record)}},
    }


def name(record, version):
    return f"Preskus {record} v{version} d.o.o."


class Stage:
    def __init__(self, options, extra=None):
        self.options = options
        # Kept bound without listening: the kernel gives it to nobody else, and the gateway, which sets SO_REUSEADDR too, may
        # listen on it.
        self.reserved = socket.socket()
        self.reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.reserved.bind(("127.0.0.1", 0))
        self.gateway_port = self.reserved.getsockname()[1]
        self.kurir = binary()
        self.psql = psql()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="kurir-load-"))
        self.processes = []
        self.name = f"kurir_load_{os.getpid()}"
        self.server = os.environ["KURIR_DATABASE_URL"]
        self.database = self.server.rsplit("/", 1)[0] + "/" + self.name
        self.environment = dict(
            os.environ,
            KURIR_DATABASE_URL=self.database,
            KURIR_AMQP__PREFIX=self.name,
            KURIR_KEYS__CURRENT="k1",
            KURIR_KEYS__RING__K1="AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
            KURIR_METAKOCKA__ALLOW_PRIVATE_ADDRESSES="true",
            KURIR_METAKOCKA__CALLS_PER_SECOND=str(options.calls_per_second),
            KURIR_METAKOCKA__CALL_BURST="10",
            KURIR_METAKOCKA__IN_FLIGHT=str(options.in_flight),
            KURIR_HEALTH__WORKER="",
            KURIR_HEALTH__KEEPER="",
            KURIR_LOG_FORMAT="json",
            KURIR_LOG__FILTER="warn",
            KURIR_HEALTH__GATEWAY="",
            KURIR_GATEWAY__LISTEN=f"127.0.0.1:{self.gateway_port}",
            **(extra or {}),
        )

    def sql(self, query, url=None):
        ran = subprocess.run(
            [self.psql, "-X", "-qAt", "-v", "ON_ERROR_STOP=1", url or self.database, "-c", query],
            capture_output=True, text=True, check=True)
        return ran.stdout.strip()

    def number(self, query):
        return int(self.sql(query))

    def run(self, *arguments, stdin=None):
        ran = subprocess.run([self.kurir, *arguments], env=self.environment, input=stdin, capture_output=True, text=True)
        if ran.returncode != 0:
            raise RuntimeError(f"kurir {' '.join(arguments)} ended with {ran.returncode}: {ran.stderr}")
        return ran.stdout

    def start(self, *arguments):
        log = open(self.folder / f"{len(self.processes)}-{arguments[0]}.log", "wb")
        process = subprocess.Popen([self.kurir, *arguments], env=self.environment, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def simulator(self, *options):
        process = subprocess.Popen(
            [self.kurir, "simulate", "metakocka", "--port", "0", "--json", *options],
            env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.processes.append(process)
        text = ""
        while True:
            text += process.stdout.readline()
            try:
                return json.loads(text)
            except json.JSONDecodeError:
                if process.poll() is not None:
                    raise RuntimeError("the simulator ended")

    def until(self, what, done):
        began = time.monotonic()
        while not done():
            for process in self.processes:
                if process.poll() is not None:
                    raise RuntimeError(f"{' '.join(process.args[1:3])} ended with {process.returncode}; logs in {self.folder}")
            if time.monotonic() - began > LIMIT_SECONDS:
                raise RuntimeError(f"{what}: not within {LIMIT_SECONDS} s; logs in {self.folder}")
            time.sleep(LOOK)
        return time.monotonic() - began

    def end(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
        self.sql(f'drop database if exists "{self.name}" with (force)', self.server)
        self.remove_queues()

    def remove_queues(self):
        """They are durable: without the management API they stay, empty."""
        management = self.environment.get("KURIR_RABBITMQ_MANAGEMENT_URL")
        if not management:
            print(f"note: the queues {self.name}.* are left at the broker (KURIR_RABBITMQ_MANAGEMENT_URL is not set)")
            return
        scheme, rest = management.split("://", 1)
        login, host = rest.rsplit("@", 1)
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        passwords.add_password(None, f"{scheme}://{host}", *login.split(":", 1))
        opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(passwords))
        for what in ("queues", "exchanges"):
            with opener.open(f"{scheme}://{host}/api/{what}/%2f") as answer:
                names = [one["name"] for one in json.load(answer)]
            for one in names:
                if one.startswith(self.name + "."):
                    opener.open(urllib.request.Request(f"{scheme}://{host}/api/{what}/%2f/{one}", method="DELETE")).close()


def publish(stage, options):
    """Every record's versions in order, records mixed; the last version is the highest."""
    begin = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
    each = options.events // options.records
    order = [record for record in range(options.records) for _ in range(each)]
    random.Random(options.seed).shuffle(order)
    seen = [0] * options.records
    files = [open(stage.folder / f"events-{n}.jsonl", "w") for n in range(PUBLISHERS)]
    for record in order:
        seen[record] += 1
        # One publisher sends one record's versions in order; the publishers mix them.
        files[record % PUBLISHERS].write(json.dumps(event(record, seen[record], begin)) + "\n")
    for file in files:
        file.close()
    began = time.monotonic()
    publishing = [subprocess.Popen([stage.kurir, "publish", file.name], env=stage.environment, stdout=subprocess.DEVNULL)
                  for file in files if os.path.getsize(file.name)]
    for process in publishing:
        if process.wait() != 0:
            raise RuntimeError("events could not be published")
    return len(order), each, time.monotonic() - began


def state(simulator):
    with urllib.request.urlopen(simulator["control"] + "state") as answer:
        return json.load(answer)


def names_at_partner(snapshot):
    return [partner["customer"] for company in snapshot["companies"] for partner in company["partners"]]


def test(stage, options):
    stage.sql(f'create database "{stage.name}"', stage.server)
    stage.run("migrate")
    stage.run("topology", "declare")
    simulator = stage.simulator()
    stage.run("tenant", "add", TENANT)
    stage.run("connection", "add", "--tenant", TENANT, "--system", "metakocka", "--url", simulator["url"],
              stdin=json.dumps({"secret_key": "wrong", "company_id": COMPANY}))
    stage.start("keeper")
    for _ in range(options.workers):
        stage.start("worker", WORKER)

    total, newest, publishing = publish(stage, options)
    # The last event of every record is held: nothing of it is in a queue any more.
    settled = f"""select count(*) from held h join link l on l.id = h.link_id
        where h.k = l.desired_k or h.event_id like '%-v{newest}'"""
    waited = stage.until("everything is held", lambda: stage.number(
        f"select count(*) from held where event_id like '%-v{newest}'") == options.records)
    rows = stage.number("select count(*) from held")
    kept = stage.number("select count(*) from link_event")
    notifications = stage.number("select count(*) from notification")
    print(f"published      {total} events of {options.records} records in {publishing:.1f} s")
    print(f"held           {rows} rows, {kept} older versions kept, {waited:.1f} s after the last was published "
          f"({total / (publishing + waited):.0f} events/s); causes: {stage.sql('select string_agg(distinct reason, $$, $$) from held')}")
    print(f"notifications  {notifications}")
    assert stage.number(settled) == options.records

    calls_before = stage.number("select count(*) from effect")
    stage.run("connection", "update", "--tenant", TENANT, "--system", "metakocka",
              stdin=json.dumps({"secret_key": "sim-key", "company_id": COMPANY}))
    began = time.monotonic()
    stage.run("connection", "test", "--tenant", TENANT, "--system", "metakocka")
    pace = []

    def drained():
        applied = stage.number("select count(*) from link where applied_k = desired_k")
        pace.append((time.monotonic() - began, applied))
        return applied == options.records and stage.number(
            "select (select count(*) from held) + (select count(*) from outbox)") == 0

    stage.until("everything has drained", drained)
    took = time.monotonic() - began
    effects = stage.number("select count(*) from effect where state = 'confirmed'") - calls_before
    left = {what: stage.number(f"select count(*) from {what}") for what in ("held", "link_event", "outbox", "unsettled_claim")}
    left["dead_letter"] = stage.number("select count(*) from dead_letter where state = 'open'")
    print(f"drained        {options.records} records in {took:.1f} s ({options.records / took:.0f} records/s, {effects} writes)")
    steps = [next((f"{at:.1f} s" for at, applied in pace if applied >= options.records * part / 100), "-") for part in (10, 50, 90, 100)]
    print(f"applied        10 %: {steps[0]}, 50 %: {steps[1]}, 90 %: {steps[2]}, all: {steps[3]}")
    print(f"left behind    {', '.join(f'{count} {what}' for what, count in left.items())}")

    found = sorted(names_at_partner(state(simulator)))
    expected = sorted(name(record, newest) for record in range(options.records))
    wrong = len(set(expected) - set(found))
    print(f"at the partner {len(found)} records, {wrong} without their newest content")
    problems = []
    if any(left.values()):
        problems.append("something is left behind")
    if found != expected:
        problems.append("the partner does not have each record once with its newest content")
    if notifications != 1:
        problems.append("a suspension is not told once")
    if options.calls_per_second:
        with urllib.request.urlopen(simulator["control"] + "counts") as answer:
            calls = sum(json.load(answer)["calls"].values())
        rate = calls / took
        print(f"calls          {calls}, {rate:.1f}/s of {options.calls_per_second}/s allowed")
        if rate > options.calls_per_second * RATE_SLACK + 10 / took:
            problems.append("the budget was passed")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--records", type=int, default=1_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--calls-per-second", type=int, default=0, help="budget of the connection; 0 = no limit")
    parser.add_argument("--in-flight", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    return run(test, options)


def run(test, options, extra=None):
    """One test on a stage of its own; the exit code."""
    for needed in ("KURIR_DATABASE_URL", "KURIR_AMQP_URL"):
        if not os.environ.get(needed):
            sys.exit(f"{needed} is not set: deploy/local/stack.sh run {sys.argv[0]}")
    stage = Stage(options, extra)
    try:
        problems = test(stage, options)
    except (RuntimeError, subprocess.CalledProcessError, OSError) as error:
        print(f"could not run: {error}", file=sys.stderr)
        return 2
    finally:
        stage.end()
    for problem in problems:
        print(f"FAILED: {problem}")
    if not problems:
        print("ok")
        shutil.rmtree(stage.folder, ignore_errors=True)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
