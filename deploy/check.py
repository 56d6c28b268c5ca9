#!/usr/bin/env python3
"""Holds deploy/ to docs/metrics.md, and that page's outcomes to the source: what they name is there.

Wants promtool as its argument. Says all that is wrong, and ends with 1 if anything is.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

import yaml

TOP = pathlib.Path(__file__).resolve().parent.parent
# What Prometheus says of a scrape itself.
PROMETHEUS_OWN = {"up", "scrape_duration_seconds", "ALERTS"}
# What a query of the dashboard is filled in with.
VARIABLES = {"$__rate_interval": "5m", "$cluster": ".*", "$instance": ".*"}

mistakes = []


def wrong(place, what):
    mistakes.append(f"{place}: {what}")


def text(path):
    return (TOP / path).read_text()


def parsed():
    """Every JSON and YAML file of deploy/, by its path."""
    files = {}
    for path in sorted((TOP / "deploy").rglob("*")):
        read = {".json": json.loads, ".yml": yaml.safe_load}.get(path.suffix)
        if read is None:
            continue
        try:
            files[str(path.relative_to(TOP))] = read(path.read_text())
        except (ValueError, yaml.YAMLError) as e:
            wrong(path.relative_to(TOP), e)
    return files


def metrics_on_the_page():
    """What docs/metrics.md lists, and `make test` holds to what a node tells; of a histogram, its parts."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", text("docs/metrics.md"), re.M)
    names = {name for name, _ in rows}
    return names | {f"{name}_{part}" for name, kind in rows if kind == "histogram" for part in ("bucket", "count", "sum")}


def outcomes_in_source():
    failures, pages = text("node/core/src/failure.rs"), text("node/core/src/page.rs")
    words = set(re.findall(r'= \d+ "(\w+)"', failures)) | set(re.findall(r'OutcomeWord::\w+ => "(\w+)"', pages))
    # An intent is never an answer.
    return words - {"pending"}


def first_column(heading):
    """The words in backquotes that the tables' first columns have, in the section of docs/metrics.md."""
    section = re.split(r"^#+ ", text("docs/metrics.md"), flags=re.M)
    rows = re.findall(r"^\|([^|]*)\|", next(s for s in section if s.startswith(heading)), re.M)
    return {word for row in rows for word in re.findall(r"`(\w+)`", row)}


def same(place, wanted, found):
    for name in sorted(wanted - found):
        wrong(place, f"{name} is in the source, and not here")
    for name in sorted(found - wanted):
        wrong(place, f"{name} is not in the source")


def names_in(query):
    """Names of metrics in a query: what stands before a brace or bracket, and what begins as ours do."""
    bare = re.sub(r'"[^"]*"', '""', query)
    return set(re.findall(r"[a-zA-Z_:][\w:]*(?=[{\[])", bare)) | set(re.findall(r"\b[\w:]*claviger_[\w:]+", bare))


def queries_of(dashboard):
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for annotation in dashboard["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]


def check_queries(place, queries, known, outcomes):
    for where, query in queries:
        for name in sorted(names_in(query) - known):
            wrong(place, f"{where}: no such metric: {name}")
        for words in re.findall(r'outcome=~?"([^"]*)"', query):
            for word in sorted(set(words.split("|")) - outcomes):
                wrong(place, f"{where}: no such outcome: {word}")


def check_syntax(promtool, place, queries):
    """Has promtool read the queries, as rules."""
    rules = []
    for number, (_, query) in enumerate(queries):
        for variable, value in VARIABLES.items():
            query = query.replace(variable, value)
        rules.append({"record": f"query:{number}", "expr": query})
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        json.dump({"groups": [{"name": "queries", "rules": rules}]}, file)
        file.flush()
        read = subprocess.run([promtool, "check", "rules", file.name], capture_output=True, text=True, check=False)
    if read.returncode != 0:
        wrong(place, read.stderr.strip())


def check_compose(place, compose):
    folder = (TOP / place).parent
    variables = set(re.findall(r'env = "(\w+)"', text("client/cli/src/args.rs")))
    settings = tls_files(text("deploy/three-hosts/clavigerd.toml"))
    made = text("deploy/docker/README.md")
    for name, service in compose["services"].items():
        files = [service["env_file"]] + [v.split(":")[0] for v in service["volumes"] if v.startswith(".")]
        # The certificates are the operator's to make.
        for file in (f for f in files if not f.startswith("./tls/")):
            if not (folder / file).is_file():
                wrong(place, f"{name}: there is no file {file}")
        for variable in sorted(set(service["environment"]) - variables):
            wrong(place, f"{name}: `claviger` reads no {variable}")
    for path in settings:
        stem = path.removeprefix("tls/").rsplit(".", 1)[0]
        if not re.search(rf"\b{re.escape(stem)}\b", made):
            wrong("deploy/docker/README.md", f"nothing makes {path}, which clavigerd.toml names")


def tls_files(toml):
    return re.findall(r'^(?:ca|cert|key) = "([^"]+)"', toml, re.M)


def main(promtool):
    files = parsed()
    metrics, outcomes = metrics_on_the_page(), outcomes_in_source()
    same("docs/metrics.md", outcomes, first_column("Outcomes"))

    rules = [rule for group in files["deploy/prometheus/claviger.rules.yml"]["groups"] for rule in group["rules"]]
    known = metrics | PROMETHEUS_OWN | {rule["record"] for rule in rules if "record" in rule}
    named = [(rule.get("alert") or rule["record"], rule["expr"]) for rule in rules]
    check_queries("deploy/prometheus/claviger.rules.yml", named, known, outcomes)
    for alert in (rule["alert"] for rule in rules if "alert" in rule):
        if alert not in text("deploy/prometheus/claviger.rules.test.yml"):
            wrong("deploy/prometheus/claviger.rules.test.yml", f"{alert} is not seen firing")

    queries = list(queries_of(files["deploy/grafana/claviger.json"]))
    check_queries("deploy/grafana/claviger.json", queries, known, outcomes)
    check_syntax(promtool, "deploy/grafana/claviger.json", queries)
    check_compose("deploy/docker/compose.yml", files["deploy/docker/compose.yml"])

    for mistake in mistakes:
        print(mistake, file=sys.stderr)
    if not mistakes:
        print(f"deploy: {len(files)} files read, {len(metrics)} metrics, {len(rules)} rules, {len(queries)} queries: good")
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
