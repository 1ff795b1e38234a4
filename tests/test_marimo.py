"""In marimo cells run again after what a front end sets, not after what Python sets: a click in a view must be both.
Needs marimo, which `make test` does not install"""
import os, shutil, subprocess, sys, time, urllib.request
from pathlib import Path
import pytest

ROOT = Path(__file__).parent.parent
pytest.importorskip('marimo', reason='no marimo; pip install marimo')
pytest.importorskip('playwright', reason='no playwright; `make test` installs it')
pytestmark = [pytest.mark.browser, pytest.mark.skipif(shutil.which('chromium') is None,
    reason='no chromium on PATH; on Debian: apt-get install chromium')]
sys.path.insert(0, str(ROOT/'tools'))
from lab_test import FLAGS, free_port
from playwright.sync_api import expect, sync_playwright

NOTEBOOK = '''
import marimo
app = marimo.App()
@app.cell
def _():
    import marimo as mo
    import torch
    from spd_nb.pickers import HeatmapPicker
    view = mo.ui.anywidget(HeatmapPicker(torch.arange(15.).view(5, 3)))
    view
    return mo,view
@app.cell
def _(mo, view):
    mo.md(f"picked {view.value['cell']}, value {view.selected.value if view.selected else 'none'}")
    return
if __name__=='__main__': app.run()
'''

@pytest.fixture
def marimo(tmp_path):
    "The address of a running marimo notebook"
    (tmp_path/'nb.py').write_text(NOTEBOOK, encoding='utf-8')
    port = free_port()
    env = dict(os.environ, HOME=str(tmp_path),
        PYTHONPATH=os.pathsep.join([str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])]))
    with open(tmp_path/'log', 'w', encoding='utf-8') as log, subprocess.Popen([sys.executable,'-m','marimo','run',
            'nb.py','--headless','--no-token','-p',str(port)], cwd=tmp_path, env=env, stdout=log, stderr=log) as p:
        url = f'http://127.0.0.1:{port}/'
        try:
            for _ in range(120):
                try:
                    urllib.request.urlopen(f'{url}health', timeout=5).close()
                    break
                except OSError: time.sleep(.5)
            yield url
        finally: p.terminate()

def test_a_click_runs_dependent_cells(marimo):
    with sync_playwright() as pw:
        browser = pw.chromium.launch(executable_path=shutil.which('chromium'), headless=True, args=FLAGS)
        page = browser.new_page(viewport=dict(width=1000, height=1200))
        page.goto(marimo, wait_until='domcontentloaded')
        expect(page.get_by_text('picked None, value none')).to_be_visible(timeout=60_000)
        page.locator('.spd-heat-plane').click()
        expect(page.get_by_text('picked (2, 1), value 7.0')).to_be_visible(timeout=20_000)
        page.get_by_role('button', name='let go').click()
        expect(page.get_by_text('picked None, value none')).to_be_visible(timeout=20_000)
        browser.close()
