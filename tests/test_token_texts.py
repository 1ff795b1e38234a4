"Texts of tokens for odd tokenizers and odd texts"
import pytest
from spd_nb.texts import _bytes_of, _longest_tokens, ids_named, quoted, texts_of

class Silent:
    "A tokenizer of which one token decodes to nothing"
    reads = ['','#','b']
    def get_vocab(self): return {'<pad>':0, '#':1, 'b':2}
    def convert_ids_to_tokens(self, i): return ['<pad>','#','b'][i]
    def batch_decode(self, rows, **kw): return [''.join(self.reads[i] for i in r) for r in rows]

class Signs(Silent):
    "... and no token is a word next to which others could be decoded"
    reads = ['','#','!']

def test_bytes_of_a_token_are_taken_as_they_are(): assert _bytes_of(b'\xe7', '\ufffd')==b'\xe7'

def test_unknown_bytes_are_none(): assert _bytes_of('xyz', '\ufffd')==b''

@pytest.mark.parametrize('tokenizer,texts', [(Silent(), ['<0>','#','b','<3>']), (Signs(), ['<0>','#','!','<3>'])])
def test_a_token_that_reads_as_nothing_has_its_id(tokenizer, texts): assert texts_of(tokenizer, 4)==texts

@pytest.mark.parametrize('text,texts,ids',
    [(' he said', [' he',' h','e',' said'], [0,3]), ('xy', ['x'], []), ('aa', ['a','a'], [0,0])])
def test_a_text_falls_into_its_longest_tokens(text, texts, ids): assert _longest_tokens(text, texts)==ids

@pytest.mark.parametrize('odd', ['', '\udc80', '\ud800'])
def test_texts_that_no_token_can_read_are_refused(odd):
    with pytest.raises(ValueError, match='token'): ids_named(['a','⟨E7⟩'], odd)

def test_a_number_that_is_no_id_is_refused():
    with pytest.raises(TypeError): ids_named(['a','b'], 1.5)

def test_every_control_and_change_of_direction_is_quoted_as_a_code():
    assert quoted(''.join(map(chr,
        (0x7f, 0x85, 0x2028, 0x2029, *range(0x202a, 0x202f), *range(0x2066, 0x206a))))).isascii()
