"""What the pages are tested with is itself tested: trouble is seen, and none is seen where there is none."""

import pytest

WRONG = {
    "an error on the console": ("<script>console.error('oh')</script>", "error: oh"),
    "an exception": ("<script>undefined.x</script>", "exception: "),
    "an image from elsewhere": ("<img src='missing.png'>", "request: "),
    "a script from the network": (
        "<script src='http://127.0.0.1:9/x.js'></script>",
        "request: http://127.0.0.1:9/x.js",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_trouble_is_seen(browser, watch, tmp_path, kind):
    path = tmp_path / "page.html"
    path.write_text(f"<!DOCTYPE html><title>x</title>{WRONG[kind][0]}")
    page = browser.new_page()
    trouble = watch(page, path.as_uri())
    page.goto(path.as_uri())
    page.wait_for_load_state("load")
    page.close()
    assert any(line.startswith(WRONG[kind][1]) for line in trouble)


def test_a_quiet_page_passes_and_a_wide_one_is_measured(open_page, sideways, tmp_path):
    path = tmp_path / "page.html"
    path.write_text("<!DOCTYPE html><title>x</title><div style='width: 500px'>x</div>")
    assert sideways(open_page(path, viewport={"width": 900, "height": 600})) == 0
    assert sideways(open_page(path, viewport={"width": 390, "height": 600})) > 100
