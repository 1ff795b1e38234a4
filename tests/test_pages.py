"A lesson that fails says where: the page, the cell and the line, and a debugger stops in it"
import nbformat, pytest
from conftest import describe_failure, run_page
from test_layout import ROOT

def page(folder, *cells):
    "A notebook with these cells"
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell('# A page'),
        *map(nbformat.v4.new_code_cell, cells)])
    path = folder/'page.ipynb'
    nbformat.write(nb, path)
    return path

def test_a_failing_cell_is_named_with_its_line(tmp_path):
    path = page(tmp_path, 'def divide(x):\n    half = x/2\n    return 1/half', 'x = 0\ny = divide(x)\nz = 3')
    with pytest.raises(ZeroDivisionError) as e: run_page(path, set(), ROOT)
    said = describe_failure(path.relative_to(tmp_path), *e.value.__notebook_cell__, e.value)
    assert said.startswith('page.ipynb, cell 3 (id ') and ', line 2: ZeroDivisionError: ' in said.splitlines()[0]
    assert '-->   2 y = divide(x)' in said and '      3 z = 3' in said and 'in divide' in said

def test_a_debugger_stops_in_the_cell(tmp_path):
    "`pytest --pdb` opens the innermost frame of the error that a page raises"
    path = page(tmp_path, 'def divide(x):\n    half = x/2\n    return 1/half', 'divide(0)')
    with pytest.raises(ZeroDivisionError) as e: run_page(path, set(), ROOT)
    frame = e.traceback[-1].frame
    assert (frame.code.name, frame.f_locals['half']) == ('divide', 0.)

def test_cells_after_the_failing_one_do_not_run(tmp_path):
    path = page(tmp_path, '1/0', 'open("ran", "w").close()')
    with pytest.raises(ZeroDivisionError): run_page(path, set(), ROOT)
    assert not (tmp_path/'ran').exists()

def test_flagged_cells_are_skipped(tmp_path):
    path = page(tmp_path, '#| slow\n1/0', '#| eval: false\n1/0', 'open("ran", "w").close()')
    run_page(path, {'slow'}, ROOT)
    assert (tmp_path/'ran').exists()
    with pytest.raises(ZeroDivisionError): run_page(path, set(), ROOT)
