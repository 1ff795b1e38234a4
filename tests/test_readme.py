"README.md is nbs/index.ipynb, and points at files that exist"
import json, re, sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT/'tools'))
from readme import markdown

def test_readme_is_the_index_page():
    assert (ROOT/'README.md').read_text(encoding='utf-8')==markdown(json.loads((ROOT/'nbs'/'index.ipynb').read_text(encoding='utf-8'))), 'run `make readme`'  # noqa: E501

def test_links_point_at_files():
    for f in re.findall(r'\]\((?!http)([^)#]+)\)', (ROOT/'README.md').read_text(encoding='utf-8')):
        assert (ROOT/f).exists(), f
