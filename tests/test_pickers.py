"Pickers: matrices, labels and columns that are refused, picks from a browser, and what pages hold"
import json, re
import numpy as np, pandas as pd, pytest, torch
from messages import caller
from spd_nb.pages import jsonable, page
from spd_nb.pickers import HeatmapPicker, ParetoPicker
from spd_nb.figures import cycle
from spd_nb.plots import data_of, pareto

NASTY = ['</script><script>alert(1)</script>','<b>\u202e','a\nb']

@pytest.fixture
def matrix(): return HeatmapPicker([[1.,2,3],[4,float('nan'),6]], x=NASTY, y=np.array([7,8]), title='<i>')

@pytest.fixture
def df():
    return pd.DataFrame(dict(kl=[0,.1,.2,float('nan'),.2,.4], p=[.1,.3,.5,.5,.7,float('inf')],
        who=['a','b','a','a','a','b'], said=['<b>','x\n','','a','\u202e','b']), index=[9]*6)

@pytest.fixture
def odd(df): return ParetoPicker(df, 'kl', 'p', group='who', text='said', y_better='high', log_x=True, title='<i>')

def unstyled(html): return re.sub(r' style="[^"]*"|</?t(head|body)>', '', html)

def test_a_later_change_to_the_array_does_not_reach_the_view():
    mine = np.zeros((2,3))
    view = HeatmapPicker(mine, zmax=1)
    mine[0,1],view.cell = 7,(0,1)
    assert view.selected.value==0

def test_colours_span_the_matrix(matrix): assert (matrix.zmin, matrix.zmax, matrix.selected)==(1, 6, None)

@pytest.mark.parametrize('args,why', [(dict(row=2, column=0), 'no row 2; there are 2'),
    (dict(row=-1, column=0), 'greater than or equal to 0'), (dict(row='0', column=0), 'valid integer'),
    (dict(row=0), 'missing')], ids=repr)
def test_calls_for_other_cells_are_refused(args, why, matrix):
    matrix.cell = 0,2
    assert why in caller(matrix)('pick', **args) and matrix.cell==(0,2)

@pytest.mark.parametrize('cell,error,why', [((0,-1), ValueError, "no column -1"),
    ((0,1.), TypeError, "a column is a whole number, got 1.0"),
    (3, TypeError, "a cell is a row and a column, or `None`, got 3"), ((0,1,2), TypeError, "got (0, 1, 2)")], ids=repr)
def test_other_cells_cannot_be_set(cell, error, why, matrix):
    with pytest.raises(error, match=re.escape(why)): matrix.cell = cell
    assert matrix.cell is None

@pytest.mark.parametrize('make,why', [(lambda z: HeatmapPicker(z, x=['a','b']), "`x` has 2 labels for 3 columns"),
    (lambda z: HeatmapPicker(z, y=['a']), "`y` has 1 labels for 2 rows"),
    (lambda z: HeatmapPicker(z[0]), "`z` must have 2 dimensions, but its shape is (3,)"),
    (lambda z: HeatmapPicker(np.ones((0,3))), "`z` is empty"),
    (lambda z: HeatmapPicker([[0,np.inf]]), "(inf) at [0, 1]"),
    (lambda z: HeatmapPicker(z, symmetric=True, zmin=0), "`zmax` alone")], ids=['x','y','dimensions','empty','inf',
    'ends'])
def test_wrong_matrices_are_refused_as_by_heatmap(make, why, matrix):
    with pytest.raises(ValueError, match=re.escape(why)): make(matrix.z)

def test_a_matrix_as_a_page_and_as_a_table(matrix, tmp_path):
    html = matrix.to_html(tmp_path/'m.html').read_text(encoding='utf-8')
    assert 'alert(1)' in html and '<script>alert' not in html and '<i>' not in html
    assert html==page({'':[matrix]}, repr(matrix))
    assert unstyled(matrix.plain_html())==(
        '<p>&lt;i&gt;: value, 2 rows (row) and 3 columns (column), from 1 to '
        '6</p><table><tr><th></th><th>&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;</th><th>&lt;b&gt;⟨202E⟩</th><th>a⏎b</th></tr>'
        '<tr><td>7</td><td>1</td><td>2</td><td>3</td></tr><tr><td>8</td><td>4</td><td>nan</td><td>6</td></tr></table>')
    assert json.loads(json.dumps(matrix.snapshot_state(), allow_nan=False))==matrix.snapshot_state()
    assert unstyled(HeatmapPicker(torch.zeros(500, 2000)).plain_html()).count('<td>')==12*9

@pytest.mark.parametrize('x_better', ['low','high'])
def test_points_and_fronts_are_those_of_the_figure(x_better):
    rng = np.random.default_rng(0)
    df = pd.DataFrame(dict(kl=rng.random(12)+.01, p=rng.random(12), form=list('abc')*4))
    how = dict(group='form', text='form', y_better='high', log_x=True, title='Writing', x_title='KL', y_title='P',
        x_better=x_better)
    fig,view = data_of(pareto(df, 'kl', 'p', **how)),ParetoPicker(df, 'kl', 'p', **how)
    for points,line,g in zip(fig['traces'][::2], fig['traces'][1::2], view.groups, strict=True):
        assert (points['name'], jsonable(points['x']), jsonable(points['y']), list(points['hovertext']))==(g['name'],
            g['x'], g['y'], g['texts'])
        assert (jsonable(line['x']), jsonable(line['y']))==([g['x'][i] for i in g['front']],
            [g['y'][i] for i in g['front']])
        assert jsonable(df.kl[g['rows']])==g['x']
    assert (view.title, view.x_title, view.y_title)==(fig['title'], fig['x_title'], fig['y_title'])
    assert (view.x_better, view.log_x, view.log_y)==(x_better, True, False)
    assert [g['color'] for g in view.groups]==cycle[:len(view.groups)]

def test_texts_are_visible_and_numbers_are_numbers(odd):
    assert odd.title=='<i> (3 of 6 points not shown: not finite, or not positive on a log axis)'
    assert [(g['name'], g['rows'], g['front'], g['texts']) for g in odd.groups]==[('b',[1],[0],['x⏎']),
        ('a',[2,4],[1],['','⟨202E⟩'])]
    assert (odd.table[3], odd.table[5])==(['nan',.5,'a','a'], [.4,'inf','b','b'])

def test_groups_may_be_missing_and_axes_turned(df):
    assert [g['name']
        for g in ParetoPicker(df.assign(who=[None,None,'a','a','a','b']), 'kl', 'p', group='who').groups]==['nan','a']
    assert ParetoPicker(df, 'kl', 'p', y_better='high').groups[0]['rows']==[0,1,2,4]
    turned = ParetoPicker(df, 'p', 'kl', log_y=True)
    assert (turned.groups[0]['rows'], turned.log_x, turned.log_y)==([1,2,4], False, True)

@pytest.mark.parametrize('row,why',
    [(6, 'no row 6; there are 6 (0 to 5)'), (-1, 'greater than or equal to 0'), (True, 'valid integer')], ids=repr)
def test_calls_for_other_rows_are_refused(row, why, odd):
    odd.row = 1
    assert why in caller(odd)('pick', row=row) and odd.row==1

@pytest.mark.parametrize('make,error,why',
    [(lambda df: setattr(ParetoPicker(df, 'kl', 'p'), 'row', 6), ValueError, "no row 6"),
    (lambda df: ParetoPicker(df, 'kl', 'p', group='run'), ValueError, "no column 'run'"),
    (lambda df: ParetoPicker(dict(l0=[1,2], kl=[1]), 'l0', 'kl'), ValueError,
        "{'l0': 2, 'kl': 1}"), (lambda df: ParetoPicker(dict(l0=[0], kl=[1]), 'l0', 'kl', log_x=True), ValueError,
        "none of the 1 points"),
    (lambda df: ParetoPicker(df, 'kl', 'p', x_better='lo'), ValueError,
    "`x_better` must be 'low' or 'high', got 'lo'"), (lambda df: ParetoPicker([1], 'l0', 'kl'), TypeError,
    "got list")], ids=['row','group','lengths','none','better','list'])
def test_wrong_frames_are_refused_as_by_pareto(make, error, why, df):
    with pytest.raises(error, match=re.escape(why)): make(df)

def test_a_front_as_a_page_and_as_a_table(df, odd, tmp_path):
    hostile = ParetoPicker(df.assign(said=NASTY*2).rename(columns=dict(who=NASTY[0])), 'kl', 'p', group=NASTY[0],
        text='said', title=NASTY[0])
    html = hostile.to_html(tmp_path/'p.html').read_text(encoding='utf-8')
    assert 'alert(1)' in html and '<script>alert' not in html
    assert unstyled(odd.plain_html())==(
        '<p>&lt;i&gt; (3 of 6 points not shown: not finite, or not positive on a log axis): the fronts of 3 '
        'points</p><table><tr><th>group</th><th>text</th><th>kl ← better</th><th>p better →</th></tr>'
        '<tr><td>b</td><td>x⏎</td><td>0.1</td><td>0.3</td></tr><tr><td>a</td><td>⟨202E⟩</td><td>0.2</td><td>0.7</td></tr></table>')
    assert len(ParetoPicker(dict(a=range(50), b=range(50,0,-1)), 'a', 'b').plain_html().split('<tr>'))==42
    assert json.loads(json.dumps(odd.snapshot_state(), allow_nan=False))==odd.snapshot_state()

def test_a_table_says_that_it_is_cut():
    for n,cut in ((40,False), (41,True)):
        html = ParetoPicker(dict(a=range(n), b=range(n,0,-1)), 'a', 'b').plain_html()
        assert ('; the first 40' in html)==cut and len(html.split('<tr>'))==42
