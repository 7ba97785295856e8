"""Templates of HTTP requests: what holes give, where, and what they cannot do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wonder_ray.actions.policy import parse
from wonder_ray.actions.templates import render_header, render_json, render_text, render_url
from wonder_ray.errors import ActionError, ExpressionError

ESCAPES = [
    "''.__class__",
    "''.__class__.__mro__[1].__subclasses__()",
    "x.__init__.__globals__",
    "self",
    "config",
    "cycler.__init__.__globals__.os.popen('id').read()",
    "lipsum.__globals__['os']",
    "request.application.__globals__",
    "''|attr('__class__')",
    "namespace(x=1)",
    "range(10**9)",
    "import os",
    "open('/etc/passwd')",
    "eval('1')",
    "exec('1')",
    "x = 1",
    "x := 1",
    "lambda: 1",
    "().__class__.__bases__[0]",
    "x['__class__']",
    "x.__class__",
    "getattr(x, 'y')",
    "f'{x}'",
    "'%s' % x",
    "'{}'.format(x)",
    "for i in x",
    "[i for i in x]",
    "{% for i in x %}{{ i }}",
    "undefined",
    "",
    "{{ x }}",
    "x\0y",
]


@pytest.mark.parametrize("escape", ESCAPES)
def test_a_hole_reaches_nothing_but_its_values(escape: str) -> None:
    for render in (render_text, render_header):
        with pytest.raises(ExpressionError):
            render("{{ " + escape + " }}", {"x": {"y": 1}})
    with pytest.raises(ExpressionError):
        render_json({"a": ["{{ " + escape + " }}"]}, {"x": {"y": 1}})
    with pytest.raises(ExpressionError):
        render_url("https://example.com/{{ " + escape + " }}", {"x": {"y": 1}})


def test_the_same_values_always_give_the_same_texts() -> None:
    values = {"user": {"id": 7, "tags": ["a", "b"]}, "ok": True, "half": 0.5}
    assert render_text("{{ user.id }}/{{user.tags}}/{{ ok }}/{{ half }}", values) == '7/["a","b"]/true/0.5'
    assert render_json({"n": "{{ user.id }}", "all": "{{ user }}", "is": " {{ ok }} ", 1: None}, values) == {
        "n": 7,
        "all": values["user"],
        "is": True,
        1: None,
    }
    assert render_text("no { hole } }}", values) == "no { hole } }}"


def test_what_a_hole_gives_is_not_read_again() -> None:
    assert render_text("{{ x }}", {"x": "{{ y }}", "y": "secret"}) == "{{ y }}"
    assert render_json(["a{{ x }}"], {"x": "{{ y }}", "y": "secret"}) == ["a{{ y }}"]


@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1))
def test_no_text_leaves_its_place_in_a_url(text: str) -> None:
    template = "https://example.com/a/{{ x }}/b?q={{ x }}&r=1"
    if text in {".", ".."}:
        with pytest.raises(ExpressionError, match="leads elsewhere"):
            render_url(template, {"x": text})
        return
    target = parse(render_url(template, {"x": text}))
    path, _, query = target.path.partition("?")
    assert target.host == "example.com"
    assert path.count("/") == 3
    assert (path.endswith("/b"), query.count("&"), query.endswith("&r=1")) == (True, 1, True)


@pytest.mark.parametrize(
    "template",
    [
        "{{ x }}",
        "https://{{ x }}/",
        "https://{{ x }}.example.com/",
        "https://example.com:{{ x }}/",
        "{{ x }}://example.com/",
        "https://a{{ x }}",
    ],
)
def test_a_hole_cannot_make_a_host(template: str) -> None:
    with pytest.raises(ExpressionError, match="the path and the query only"):
        render_url(template, {"x": "evil.example"})


@pytest.mark.parametrize("dots", [".", "..", "%2e%2e"])
def test_a_hole_cannot_climb_out_of_a_path(dots: str) -> None:
    for template in (
        "https://example.com/a/{{ x }}",
        "https://example.com/a/.{{ x }}/b",
        "https://example.com/{{ x }}{{ '' }}?y",
    ):
        try:
            url = render_url(template, {"x": dots})
        except ExpressionError:
            continue
        assert not {"..", "."} & set(parse(url).path.partition("?")[0].split("/"))


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{{ x", "not closed"),
        ("a {{ x }} {{ y", "not closed"),
        ("x" * 70_000, "at most 65,536 characters"),
        ("{{ x }}" * 101, "at most 100 holes"),
        ("{{ big }}" * 30, "grows over"),
        ("{{ none }}", "null"),
    ],
)
def test_a_template_has_limits(template: str, problem: str) -> None:
    values = {"x": 1, "big": "x" * 50_000, "none": None}
    with pytest.raises(ExpressionError, match=problem):
        render_text(template, values)


def test_all_texts_of_a_json_value_share_the_limits() -> None:
    for template in (["{{ big }}"] * 90, ["a{{ big }}"] * 90, ["{{ 1 }}"] * 101):
        with pytest.raises(ExpressionError, match=r"grows over|at most 100"):
            render_json(template, {"big": "x" * 50_000})


def test_a_list_is_no_part_of_a_url_or_header() -> None:
    for render, template in ((render_url, "https://example.com/{{ x }}"), (render_header, "{{ x }}")):
        with pytest.raises(ExpressionError, match="a list or map"):
            render(template, {"x": [1]})


def test_a_name_that_is_none_is_told() -> None:
    with pytest.raises(ExpressionError):
        render_text("{{ x }}", {"not a name": 1})


def test_a_header_from_a_template_is_looked_at_like_others() -> None:
    from wonder_ray.actions import http_request

    with pytest.raises(ActionError, match="line break"):
        http_request("https://example.com/", headers={"X-A": "{{ x }}"}, values={"x": "a\r\nX-B: c"})
