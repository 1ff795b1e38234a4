"Files and data sets that are almost, but not quite, documents"
import json
from types import SimpleNamespace
import pandas as pd, pytest
from datasets import IterableDataset
from spd_nb.data import tokens
from spd_nb.documents import documents

DOCS = [[5,6,7],[8,9],[10],[11,12,13,14],[15]]
TEXTS = [' '.join(map(str, d)) for d in DOCS]

def words(text, add_special_tokens): return SimpleNamespace(input_ids=[int(w) for w in text.split()])

def read(source, **kw): return [list(d) for d in documents(source, words, **kw)]

def test_null_documents_of_a_table_are_skipped(tmp_path):
    pd.DataFrame(dict(content=[*TEXTS[:2], None, *TEXTS[2:]])).to_parquet(tmp_path/'a.parquet')
    assert read(tmp_path/'a.parquet')==DOCS
    assert read([*TEXTS[:2], float('nan'), *TEXTS[2:]])==DOCS

def test_json_lines_of_ids(tmp_path):
    (tmp_path/'ids.jsonl').write_text('\n'.join(json.dumps(dict(input_ids=d)) for d in DOCS), encoding='utf-8')
    assert read(tmp_path/'ids.jsonl')==DOCS

def test_a_stream_whose_columns_are_not_known():
    stream = IterableDataset.from_generator(lambda: (dict(story=t, n=i) for i,t in enumerate(TEXTS)))
    assert stream.column_names is None and read(stream)==DOCS

@pytest.mark.parametrize('name,text', [('a.html','<p>1 2</p>'), ('a.json','[]'), ('nameless','1 2')])
def test_other_kinds_of_files_are_refused(tmp_path, name, text):
    (tmp_path/name).write_text(text, encoding='utf-8')
    with pytest.raises(ValueError, match='its markup would be read as text; .parquet, .txt, .jsonl'):
        read(tmp_path/name)

def test_a_torn_line_is_named(tmp_path):
    (tmp_path/'torn.jsonl').write_text('{"text": "1 2"}\n{"te', encoding='utf-8')
    with pytest.raises(ValueError, match='line 2 of'): read(tmp_path/'torn.jsonl')

def test_a_row_without_the_column_is_named(tmp_path):
    (tmp_path/'lacks.jsonl').write_text('null\n{"text": "1 2"}\n{"id": 3}', encoding='utf-8')
    with pytest.raises(ValueError, match="has no 'text'; it has 'id'"): read(tmp_path/'lacks.jsonl')

@pytest.mark.parametrize('name,head', [('marked.txt',''), ('marked.csv','text\n')])
def test_a_byte_order_mark_is_no_text(tmp_path, name, head):
    "As programs on Windows write it"
    (tmp_path/name).write_bytes(b'\xef\xbb\xbf'+(head+'\n'.join(TEXTS)).encode())
    assert read(tmp_path/name)==DOCS

def test_a_csv_with_another_delimiter_is_refused(tmp_path):
    (tmp_path/'other.csv').write_text('id;text\n1;1 2', encoding='utf-8')
    with pytest.raises(ValueError, match="its columns are not separated by ','"): read(tmp_path/'other.csv')

def test_ids_written_as_text_are_refused(tmp_path):
    (tmp_path/'ids.csv').write_text('input_ids\n"[1, 2]"', encoding='utf-8')
    with pytest.raises(ValueError, match=r"holds text, '\[1, 2\]'"): read(tmp_path/'ids.csv')

def test_several_data_sets_are_refused():
    with pytest.raises(TypeError, match='is several data sets; choose one of them'): read(dict(train=DOCS))

def test_a_dictionary_is_no_document():
    with pytest.raises(TypeError, match='a document is a text or a list of token ids, got dict'): read([dict(text='1')])

def test_all_files_are_looked_at_before_any_is_read(tmp_path):
    (tmp_path/'a.txt').write_text('1 2', encoding='utf-8')
    (tmp_path/'b.html').write_text('<p>', encoding='utf-8')
    with pytest.raises(ValueError, match='its markup'): next(iter(documents(tmp_path/'*', words)))

def test_tokens_reads_what_documents_reads(tmp_path):
    (tmp_path/'a.tsv').write_text('story\n'+'\n'.join(TEXTS), encoding='utf-8')
    for source in (tmp_path/'a.tsv', [*TEXTS[:2], ' ', '', *TEXTS[2:]]):
        assert tokens(source, 2, 4, words, bos=0, shuffle=False).rows.tolist()==[[0,5,6,7],[0,8,9,0],[10,0,11,12],
            [13,14,0,15]]

def test_blank_lines_of_json_are_skipped(tmp_path):
    lines = [json.dumps(dict(text=t)) for t in TEXTS]
    (tmp_path/'a.jsonl').write_text('\n \n'.join(lines)+'\n\n', encoding='utf-8')
    assert read(tmp_path/'a.jsonl')==DOCS

def test_a_number_is_no_document():
    with pytest.raises(TypeError, match='a document is a text or a list of token ids, got float: .3.5.'):
        read([TEXTS[0], 3.5])
