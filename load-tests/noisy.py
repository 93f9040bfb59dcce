#!/usr/bin/env python3
"""One noisy tenant with 10 000 events and a partner that answers quota errors; nine quiet ones with an event each second.

    load-tests/noisy.py                              60 s, two workers
    load-tests/noisy.py --workers 4 --seconds 30     four replicas, shorter
    load-tests/noisy.py --no-quota-errors            how exactly the budget is kept

Measures, at the simulator: how long a quiet tenant's event takes from its publish to the partner, how much of its budget
the noisy tenant used (quota pauses taken out), whether any minute's worth of its calls passed the budget, and what
leasing the permits cost. Needs what load-tests/suspended.py needs. Exit: 0 within the bounds, 1 not, 2 could not run.
"""

import argparse
import datetime
import json
import subprocess
import sys
import time
import urllib.request

import suspended
from suspended import Stage, WORKER, tax_number

NOISY = "noisy"
QUIET = 9
# Beyond those of the flood.
QUIET_RECORDS = 500_000
# Shorter than the default, so that several fit into a run.
QUOTA_BACKOFF_SECONDS = 2
# A call of the noisy tenant in so many is answered with a quota error.
QUOTA_EVERY = 1500
# What is promised: from the third second on, and of the budget that the partner left.
QUIET_P99_SECONDS = 0.5
BEGINNING_SECONDS = 3
LEAST_SHARE = 0.95
MOST_LEASES = 0.05


def event(tenant, record):
    now = datetime.datetime.now(datetime.timezone.utc)
    return {
        "specversion": "1.0", "id": f"{tenant}-{record}", "source": f"urn:kurir:{tenant}:crm:default",
        "type": "crm.contact.created.v1", "subject": f"contact/org-{record}",
        "time": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), "tenantid": tenant,
        "data": {"contact": {"id": f"org-{record}", "kind": "organization", "name": f"{tenant} {record} d.o.o.", "tax_id": tax_number(record)}},
    }


class Crm:
    """Publishes through the gateway: one process that keeps its connection, so that its own start-up is not measured."""

    def __init__(self, stage, tenants):
        self.tokens = {}
        for tenant in tenants:
            made = json.loads(stage.run("token", "create", "--tenant", tenant, "--name", "load", "--json"))
            self.tokens[tenant] = made["secret"]
        self.address = f"http://127.0.0.1:{stage.gateway_port}/v1/events"

    def send(self, one):
        request = urllib.request.Request(self.address, data=json.dumps(one).encode(), headers={
            "content-type": "application/cloudevents+json", "authorization": f"Bearer {self.tokens[one['tenantid']]}"})
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 202


def percentile(values, part):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * part))] if values else float("nan")


def parse(moment):
    return datetime.datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()


def most_within(moments, span):
    most = first = 0
    for last, moment in enumerate(moments):
        while moments[first] <= moment - span:
            first += 1
        most = max(most, last - first + 1)
    return most


def entries(simulator):
    found, since = [], 0
    while True:
        with urllib.request.urlopen(f"{simulator['control']}log?since={since}&limit=1000") as answer:
            page = json.load(answer)
        if not page["entries"]:
            return found
        found += page["entries"]
        since = page["next_since"]


def test(stage, options):
    tenants = [NOISY] + [f"quiet-{n}" for n in range(1, QUIET + 1)]
    stage.sql(f'create database "{stage.name}"', stage.server)
    stage.run("migrate")
    stage.run("topology", "declare")
    companies = stage.folder / "companies.json"
    companies.write_text(json.dumps({"companies": [{"company_id": tenant, "secret_key": "sim-key"} for tenant in tenants]}))
    simulator = stage.simulator("--options", str(companies))
    for tenant in tenants:
        stage.run("tenant", "add", tenant)
        added = json.loads(stage.run(
            "connection", "add", "--tenant", tenant, "--system", "metakocka", "--url", simulator["url"], "--json",
            stdin=json.dumps({"secret_key": "sim-key", "company_id": tenant})))
        if tenant == NOISY:
            stage.run("budgets", "set", added["connection"]["id"], "--window", f"{options.requests}/{options.window}", "--in-flight", "8")
    stage.start("keeper")
    stage.start("gateway")
    for _ in range(options.workers):
        stage.start("worker", WORKER)
    crm = Crm(stage, tenants)
    stage.until("the gateway to listen", lambda: reachable(crm, tenants[1]))
    if not options.no_quota_errors:
        for nth in range(1, 1 + options.requests * options.seconds // options.window // QUOTA_EVERY):
            fault = {"fault": {"kind": "quota"}, "company": NOISY, "nth": nth * QUOTA_EVERY}
            urllib.request.urlopen(urllib.request.Request(
                simulator["control"] + "faults", data=json.dumps(fault).encode(), headers={"content-type": "application/json"})).close()

    flood = stage.folder / "flood.jsonl"
    flood.write_text("".join(json.dumps(event(NOISY, n)) + "\n" for n in range(options.events)))
    began = time.time()
    flooding = subprocess.Popen([stage.kurir, "publish", str(flood)], env=stage.environment, stdout=subprocess.DEVNULL)
    sent = {}
    for second in range(options.seconds):
        for tenant in tenants[1:]:
            record = QUIET_RECORDS + second
            sent[(tenant, f"{tenant} {record} d.o.o.")] = time.time()
            crm.send(event(tenant, record))
        time.sleep(max(0, began + second + 1 - time.time()))
    ended = time.time()
    if flooding.poll() is None:
        print("note: the flood was still being published at the end")
        flooding.kill()
    time.sleep(2)

    log = entries(simulator)
    arrived = {}
    for entry in log:
        if entry.get("stored") and entry["call"] == "add_partner":
            partner = entry["body"].get("partner", {})
            arrived[(entry["company_id"], partner.get("customer"))] = parse(entry["stored_at"])
    late = [(sent[key] - began, arrived[key] - sent[key]) for key in sent if key in arrived]
    missing = len(sent) - len(late)
    first = [delay for at, delay in late if at < BEGINNING_SECONDS]
    rest = [delay for at, delay in late if at >= BEGINNING_SECONDS]
    calls = sorted(parse(entry["at"]) for entry in log if entry["company_id"] == NOISY)
    pauses = sum(1 for entry in log if entry["company_id"] == NOISY and entry.get("fault")) * QUOTA_BACKOFF_SECONDS
    during = [moment for moment in calls if moment <= ended]
    allowed = options.requests / options.window * (ended - calls[0] - pauses)
    share = len(during) / allowed
    most = most_within(calls, options.window)
    asked, used = stage.sql(f"select asked, leased - returned from budget where tenant = '{NOISY}'").split("|")
    overhead = int(asked) / max(1, int(used))
    held = stage.number("select count(*) from held")
    print(f"quiet, first {BEGINNING_SECONDS} s  p50 {percentile(first, .5):.3f} s, max {max(first, default=0):.3f} s")
    print(f"quiet, then       p50 {percentile(rest, .5):.3f} s, p99 {percentile(rest, .99):.3f} s, max {max(rest, default=0):.3f} s ({len(rest)} events, {missing} missing)")
    print(f"noisy             {len(during)} calls in {ended - calls[0]:.1f} s, {pauses} s of them paused by its partner: {share:.1%} of its budget; {held} events wait")
    print(f"noisy             at most {most} calls within {options.window} s of {options.requests} allowed")
    print(f"leases            {asked} statements for {used} permits: {overhead:.1%}")
    problems = []
    if missing:
        problems.append(f"{missing} events of quiet tenants did not arrive")
    if percentile(rest, .99) > QUIET_P99_SECONDS:
        problems.append(f"quiet tenants wait longer than {QUIET_P99_SECONDS} s")
    if most > options.requests:
        problems.append("the budget was passed")
    if share < LEAST_SHARE:
        problems.append(f"the noisy tenant got less than {LEAST_SHARE:.0%} of its budget")
    if overhead > MOST_LEASES:
        problems.append(f"leases cost more than {MOST_LEASES:.0%}")
    return problems


def reachable(crm, tenant):
    try:
        crm.send(event(tenant, QUIET_RECORDS - 1))
        return True
    except OSError:
        return False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--requests", type=int, default=6000, help="budget of the noisy tenant: so many ...")
    parser.add_argument("--window", type=int, default=60, help="... in so many seconds")
    parser.add_argument("--no-quota-errors", action="store_true")
    options = parser.parse_args()
    options.calls_per_second, options.in_flight = 0, 8
    return suspended.run(test, options, extra={
        "KURIR_METAKOCKA__QUOTA_BACKOFF_SECONDS": str(QUOTA_BACKOFF_SECONDS),
        "KURIR_GATEWAY__EVENTS_PER_SECOND": "1000", "KURIR_GATEWAY__BURST": "1000",
    })


if __name__ == "__main__":
    sys.exit(main())
