"""Every figure the edge promises, its limit beside what was measured: `make bench SUITE=edge`.

    python benchmarks/edge.py [--only hot,stream,rules,platform] [--rounds 5] [--seconds 2] [--kept]

Runs the parts one after the other, prints what each measured, and at the end one table of all figures. Each part is
kept in `results/edge_<part>.json`, with plots (SVG) beside it. `--kept` measures nothing and prints the table of what
was kept. nginx, wrk and h2load come from Debian (`nginx`, `wrk`, `nghttp2-client`); Caddy and MinIO are Go programs
(`go install github.com/caddyserver/caddy/v2/cmd/caddy@latest`, `go install github.com/minio/minio@latest`).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import edge_hot
import edge_platform
import edge_rules
import edge_stream
from figures import Figure, Part, keep_part, print_figures, read_kept

PARTS: dict[str, Callable[[argparse.Namespace, Path], Part]] = {
    "hot": lambda options, work: edge_hot.measure(rounds=options.rounds, seconds=options.seconds, work=work),
    "stream": lambda options, work: edge_stream.measure(rounds=options.rounds, work=work),
    "rules": lambda _options, work: edge_rules.measure(work=work),
    "platform": lambda options, work: edge_platform.measure(publishes=options.publishes, work=work),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="comma-separated: " + ", ".join(PARTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="of each measurement of a round")
    parser.add_argument("--publishes", type=int, default=200)
    parser.add_argument("--kept", action="store_true", help="print what was kept, measure nothing")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := set(names) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    figures: list[Figure] = []
    for name in names:
        if not options.kept:
            with tempfile.TemporaryDirectory(prefix="vclone-bench-") as folder:
                keep_part(f"edge_{name}", PARTS[name](options, Path(folder)))
        figures += read_kept(f"edge_{name}")
    print_figures("The edge's figures", figures)


if __name__ == "__main__":
    main()
