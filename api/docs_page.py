"""The documentation page: the OpenAPI document as HTML, without a script or anything from elsewhere."""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from html import escape
from typing import Any

from api.problem import KINDS

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc } h2 code { font-size: 1.1rem }
code, pre { font-family: ui-monospace, monospace; font-size: .9em; background: #f3f3f3; border-radius: 3px }
code { padding: .1em .3em } pre { padding: .7em; overflow-x: auto } pre code { padding: 0 }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1rem }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; border: 1px solid #ddd }
td:first-child { white-space: nowrap } .required { color: #a00 }
@media (prefers-color-scheme: dark) {
  body { background: #1b1b1b; color: #ddd } code, pre { background: #2b2b2b } th, td { border-color: #444 }
  a { color: #8bf } .required { color: #f88 } }
"""
_Document = Mapping[str, Any]


def render(document: _Document) -> str:
    """The page for an OpenAPI document as FastAPI makes it."""
    return "".join(_page(document))


def _page(document: _Document) -> Iterator[str]:
    info = document["info"]
    yield '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{escape(info['title'])} API</title><style>{_STYLE}</style></head><body>"
    yield f"<h1>{escape(info['title'])} API {escape(info['version'])}</h1><p>{_text(info['description'])}</p>"
    yield '<p>For machines: <a href="/api-docs/openapi.json">openapi.json</a>.</p><ul>'
    operations = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    for method, path, operation in operations:
        name = f"{method} {path}"
        yield f'<li><a href="#{_anchor(name)}">{escape(operation["summary"])}</a> <code>{escape(name)}</code></li>'
    yield '<li><a href="#problems">Problems</a></li></ul>'
    for method, path, operation in operations:
        yield from _operation(document, method, path, operation)
    yield from _problems()
    yield "</body></html>\n"


def _operation(document: _Document, method: str, path: str, operation: _Document) -> Iterator[str]:
    name = f"{method} {path}"
    yield f'<h2 id="{_anchor(name)}">{escape(operation["summary"])} <code>{escape(name)}</code></h2>'
    for paragraph in operation.get("description", "").split("\n\n"):
        yield f"<p>{_text(paragraph)}</p>"
    parameters = operation.get("parameters", [])
    if parameters:
        yield "<h3>Parameters</h3><table><tr><th>Name</th><th>In</th><th>Meaning</th></tr>"
        for parameter in parameters:
            yield f"<tr><td>{_name(parameter['name'], parameter.get('required', False))}</td>"
            about = parameter.get("description", "") + _default(parameter.get("schema", {}))
            yield f"<td>{escape(parameter['in'])}</td><td>{_text(about)}</td></tr>"
        yield "</table>"
    body = _schema(document, operation.get("requestBody"))
    if body is not None:
        yield "<h3>Body</h3>" + "".join(_fields(body, required=body.get("required", [])))
        for example in body.get("examples", []):
            yield _code(_curl(method, path, example))
    yield "<h3>Answers</h3><table><tr><th>Status</th><th>Meaning</th></tr>"
    for status, response in operation["responses"].items():
        yield f"<tr><td>{escape(status)}</td><td>{_text(response['description'])}</td></tr>"
    yield "</table>"
    answer = _schema(document, operation["responses"]["200"])
    if answer is not None and answer.get("properties"):
        yield "".join(_fields(answer, required=()))
        for example in answer.get("examples", []):
            yield _code(json.dumps(example, indent=2))


def _problems() -> Iterator[str]:
    yield '<h2 id="problems">Problems</h2><p>What <code>type</code> may say, and what helps:</p>'
    yield "<table><tr><th>Type</th><th>Status</th><th>Meaning</th></tr>"
    for kind, (status, title, about) in KINDS.items():
        yield f'<tr id="{kind}"><td><code>/docs#{kind}</code></td><td>{status}</td>'
        yield f"<td>{escape(title)}. {_text(about)}</td></tr>"
    yield "</table>"


def _schema(document: _Document, holder: _Document | None) -> _Document | None:
    """The object schema of a body or an answer, where it has one; of a list, that of its items."""
    schema = ((holder or {}).get("content", {}).get("application/json") or {}).get("schema", {})
    reference = schema.get("$ref") or schema.get("items", {}).get("$ref")
    if reference is None:
        return None
    found: _Document = document["components"]["schemas"][reference.rpartition("/")[2]]
    return found


def _fields(schema: _Document, *, required: Collection[str]) -> Iterator[str]:
    yield "<table><tr><th>Field</th><th>Type</th><th>Meaning</th></tr>"
    for name, field in schema["properties"].items():
        yield f"<tr><td>{_name(name, name in required)}</td><td>{escape(_type(field))}</td>"
        yield f"<td>{_text(field.get('description', ''))}</td></tr>"
    yield "</table>"


def _type(field: _Document) -> str:
    if "anyOf" in field:
        return " or ".join(_type(option) for option in field["anyOf"])
    if "enum" in field:
        return " | ".join(str(value) for value in field["enum"])
    if field.get("type") == "array":
        return f"list of {_type(field['items'])}"
    return str(field.get("const") or field.get("type") or "object")


def _name(name: str, is_required: bool) -> str:
    mark = ' <span class="required" title="required">*</span>' if is_required else ""
    return f"<code>{escape(name)}</code>{mark}"


def _default(schema: _Document) -> str:
    return f" (default: `{schema['default']}`)" if "default" in schema else ""


def _curl(method: str, path: str, example: object) -> str:
    body = json.dumps(example).replace("'", "'\\''")
    return f"curl -X {method} http://127.0.0.1:8000{path} \\\n  -H 'Content-Type: application/json' \\\n  -d '{body}'"


def _code(text: str) -> str:
    return f"<pre><code>{escape(text)}</code></pre>"


def _text(text: str) -> str:
    """Text in which backquotes mark code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))


def _anchor(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
