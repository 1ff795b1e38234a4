"Labelling over HTTP: a real server with a real model, and servers that fail in every way they can"
import asyncio, json, os, shutil, socket, subprocess, sys, threading, time, traceback, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
import pytest, torch
from spd_nb.autointerp import LABEL_SCHEMA, label, prompt_for
from spd_nb.llm import Chat, _retry_delay, run_in_thread
from spd_nb.harvest import Harvest

ROOT = Path(__file__).parent.parent
LABEL = dict(input_label='fires on a colon', output_label='predicts a mouth', description='Draws faces.',
    reasoning='All examples.', confidence=.9)

@pytest.fixture
def h(tmp_path):
    "The shipped harvest, without its labels"
    shutil.copytree(ROOT/'data'/'story'/'harvest', tmp_path/'h', ignore=shutil.ignore_patterns('labels.jsonl'))
    return Harvest(tmp_path/'h')

@pytest.fixture
def keys(h): return h.components.firings.nlargest(4).index.tolist()

# servers that take an answer's form in one way only, and how they refuse the others
TAKES = {'object with schema, 422':'json_object with schema', 'llama-cpp-python':'json_object with schema',
    'object, 400':'json_object', 'words, 500':'words', 'words, 501':'words'}
REFUSALS = {
    'object with schema, 422':(422, dict(detail=[dict(type='literal_error', loc=['body','response_format','type'],
        msg="Input should be 'text' or 'json_object'")])),
    'llama-cpp-python':(500, dict(error=dict(message="[{'type': 'literal_error', 'loc': ('body', 'response_format', 'type'), 'msg': \"Input should be 'text' or 'json_object'\", 'input': 'json_schema'}]", type='internal_server_error'))),  # noqa: E501
    'object, 400':(400, dict(error=dict(message="Unknown parameter: 'response_format.schema'."))),
    'words, 500':(500, dict(error='Internal Server Error')),
    'words, 501':(501, dict(error='not implemented'))}
SAYS = {
    'thinks':(dict(content='<think>{he}? '+json.dumps(LABEL|dict(input_label='draft'))+'</think>\n```json\n'+json.dumps(LABEL)+'\n```\nThat {is} all.'), 'stop'),  # noqa: E501
    'thinks apart':(dict(content=json.dumps(LABEL), reasoning_content='{"input_label": "draft"}'), 'stop'),
    'answers in its thoughts':(dict(content=None, reasoning_content=json.dumps(LABEL)), 'stop'),
    'thinks too long':(dict(content='', reasoning_content=json.dumps(LABEL|dict(input_label='draft'))), 'length'),
    'talks too long':(dict(content=json.dumps(LABEL)[:60]), 'length'),
    'declines':(dict(content=None, refusal='I cannot help with that.'), 'stop'),
    'is filtered':(dict(content=''), 'content_filter')}

class Server(BaseHTTPRequestHandler):
    "Answers as the model's name says; `seen` counts requests by prompt, `forms` lists how answers were asked for"
    protocol_version = 'HTTP/1.1'
    def log_message(self, *a): pass
    def reply(self, status, body, **headers):
        body = json.dumps(body).encode()
        self.send_response(status)
        for k,v in dict(headers, **{'Content-Type':'application/json', 'Content-Length':str(len(body))}).items():
            self.send_header(k.replace('_','-'), v)
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        ask = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
        how,prompt,seen = ask['model'],ask['messages'][0]['content'],self.server.seen
        form = ask.get('response_format', {})
        with self.server.lock:
            seen[prompt] = nth = seen.get(prompt, 0)+1
            self.server.forms.append(form.get('type', 'words')+(' with schema' if 'schema' in form else ''))
        text = json.dumps(LABEL)
        if how=='busy' and nth<=2: return self.reply(429, dict(error='later'), Retry_After='0.1')
        if how=='broken' and nth<=2: return self.reply(500+3*(nth-1), dict(error='oops'))
        if how=='slow' and nth==1 or how=='dead': time.sleep(1.5)
        if how=='cut' and nth<=2:
            if nth==2: self.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{"choi')
            return self.connection.shutdown(socket.SHUT_RDWR)
        if how=='forbidden': return self.reply(401, dict(error=dict(message='wrong key')))
        if how=='no schemas' and 'response_format' in ask:
            return self.reply(400, dict(error='response_format is not supported'))
        if how in REFUSALS and self.server.forms[-1]!=TAKES[how]: return self.reply(*REFUSALS[how])
        if how=='too long': return self.reply(400, dict(error='prompt too long'))
        if how=='new names' and 'max_tokens' in ask:
            return self.reply(400,
                dict(error="'max_tokens' is not supported with this model; use 'max_completion_tokens'"))
        if how=='odd' and nth<=2: return self.reply(200, dict(id='x', choices=None) if nth==1 else 'gateway')
        if how=='garbled' and nth==1: text = text[:60]
        said,ended = SAYS.get(how, (dict(content=text),'stop'))
        if ended=='length' and ask['max_tokens']>=300: said,ended = dict(content=text),'stop'
        self.reply(200, dict(id='x', object='chat.completion', created=0, model=how,
            choices=[dict(index=0, finish_reason=ended, message=dict(role='assistant', **said))],
            usage=dict(prompt_tokens=1000, completion_tokens=50, total_tokens=1050)))

@pytest.fixture
def server():
    s = ThreadingHTTPServer(('127.0.0.1', 0), Server)
    s.seen,s.forms,s.lock,s.daemon_threads,s.handle_error = {},[],threading.Lock(),True,lambda *a: None
    threading.Thread(target=s.serve_forever, daemon=True).start()
    s.url = f'http://127.0.0.1:{s.server_port}/v1'
    yield s
    s.shutdown()
    s.server_close()

@pytest.fixture(autouse=True)
def quick(monkeypatch):
    "No waiting longer than the server asks for"
    wait = asyncio.sleep
    monkeypatch.setattr('spd_nb.llm.asyncio.sleep', lambda s: wait(min(s, .1)))

@pytest.mark.parametrize('how,requests',
    [('well',1), ('busy',3), ('broken',3), ('cut',3), ('garbled',2), ('slow',2), ('odd',3), ('new names',None)])
def test_labels_come_through_faults(h, keys, server, how, requests):
    done = label(h, Chat(how, server.url, price=(1.,1.), timeout=1.), keys, progress=False)
    assert done.labels.index.tolist()==keys and set(done.labels.output_label)=={LABEL['output_label']} and not done.failed  # noqa: E501
    assert requests is None or set(server.seen.values())=={requests}
    paid = 2 if how=='garbled' else 1  # an answer that cannot be read is paid for as well
    assert done.tokens_in==4*paid*1000 and done.cost==pytest.approx(4*paid*1050/1e6)
    assert label(h, Chat(how, server.url), keys, progress=False).tokens_in==0

def test_a_server_that_refuses_schemas_is_asked_in_words(h, keys, server):
    assert len(label(h, Chat('no schemas', server.url), keys, concurrency=1, progress=False).labels)==4
    assert any('of this schema' in p for p in server.seen)

@pytest.mark.parametrize('how', TAKES)
def test_a_server_is_asked_in_the_form_it_takes(h, keys, server, how):
    "Down the ladder at the first question, and then always in the form that worked"
    ladder = ['json_schema','json_object with schema','json_object','words']
    chat = Chat(how, server.url, retries=1)
    assert len(label(h, chat, keys, concurrency=1, progress=False).labels)==4
    down = ladder[:ladder.index(TAKES[how])+1]
    assert server.forms[-4:]==[TAKES[how]]*4 and list(dict.fromkeys(server.forms))==down
    # a 500 that names nothing is tried again before it counts as a refusal
    assert len(server.forms)==3+len(down)+(how=='words, 500')

def test_a_server_that_is_broken_for_a_while_is_asked_as_before(h, keys, server):
    chat = Chat('broken', server.url)
    label(h, chat, keys[:2], progress=False)
    assert set(server.forms)=={'json_schema'} and chat.form==0

@pytest.mark.parametrize('how', ['thinks','thinks apart','answers in its thoughts'])
def test_the_answer_is_told_from_the_thoughts(h, keys, server, how):
    done = label(h, Chat(how, server.url), keys[:1], progress=False)
    assert done.labels[LABEL_SCHEMA['required']].to_dict('records')==[LABEL]

@pytest.mark.parametrize('how,says', [('thinks too long','give `Chat` a larger one'),
    ('talks too long','cut at `max_tokens`=77'), ('declines','I cannot help'),
    ('is filtered',"ended it with 'content_filter'")])
def test_an_answer_that_is_none_is_explained(h, keys, server, how, says):
    failed = label(h, Chat(how, server.url, max_tokens=77), keys[:1], tries=1, progress=False).failed
    assert says in failed[keys[0]]

def test_a_longer_answer_is_the_cure(h, keys, server):
    "What the error says to do, done"
    failed = label(h, Chat('talks too long', server.url, max_tokens=77), keys[:1], tries=1, progress=False).failed
    assert 'larger' in failed[keys[0]]
    assert not label(h, Chat('talks too long', server.url, max_tokens=300), keys[:1], tries=1, progress=False).failed

def test_a_judge_reads_answers_alike(server):
    from spd_nb.scoring import Question, Text, llm_judge
    q = Question('detection', LABEL, [Text([1], ['a'], [])], True)
    with pytest.raises(ValueError, match='give `Chat` a larger one'):
        run_in_thread(lambda: llm_judge(Chat('talks too long', server.url, max_tokens=5))(q))
    assert run_in_thread(lambda: llm_judge(Chat('declines', server.url))(q)) is None

def test_a_refused_prompt_is_named_and_the_others_go_on(h, keys, server):
    done = label(h, Chat('too long', server.url), keys, progress=False)
    assert set(done.failed)==set(keys) and all('refuses the prompt' in v for v in done.failed.values())
    assert len(label(h, Chat('well', server.url), keys, progress=False).labels)==4

@pytest.mark.parametrize('how,says', [('dead','gave no answer in 2 tries'), ('forbidden','wrong key')])
def test_a_hopeless_server_stops_the_run_and_costs_no_label(h, keys, server, how, says):
    label(h, Chat('well', server.url), keys[:2], progress=False)
    with pytest.raises(RuntimeError, match=says):
        label(h, Chat(how, server.url, timeout=.5, retries=1), keys, progress=False)
    assert len(h.labels.rows)==2

def test_a_busy_server_says_how_long_to_wait():
    class Busy(Exception): response = SimpleNamespace(headers={'retry-after':'7'})
    assert _retry_delay(Busy(), 0)==7. and .5<=_retry_delay(Exception(), 0)<=1 and 30<=_retry_delay(Exception(), 99)<=60

def test_nobody_there(h, keys):
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    with pytest.raises(RuntimeError, match='gave no answer in 2 tries'):
        label(h, Chat('m', f'http://127.0.0.1:{port}/v1', retries=1), keys[:1], progress=False)

def test_the_cap_counts_retries(h, keys, server):
    "A server may charge for what it never delivered; what could have been charged stays below the cap"
    most = max(len(prompt_for(h, k).encode()) for k in keys)/1e6
    done = label(h, Chat('slow', server.url, price=(1.,0.), timeout=1.), keys, max_cost=1.5*most, concurrency=1,
        progress=False)
    assert not len(done.labels) and done.left==keys and done.cost==0 and 0<done.lost<=1.5*most

@pytest.mark.parametrize('how,lost',
    [('slow',True), ('cut',True), ('busy',False), ('broken',False), ('no schemas',False)])
def test_answers_that_got_lost_count_against_the_cap(h, keys, server, how, lost):
    """What may have been charged for them stays counted when the next try succeeds; where the server said no,
    nothing was charged"""
    done = label(h, Chat(how, server.url, price=(1.,1.), timeout=1.), keys[:2], max_cost=1., progress=False)
    assert len(done.labels)==2 and (done.lost>.002)==lost and (lost or done.lost==0)

# keys

KEY = 's3cr/et-k.ey_0123456789'

class Leaky(BaseHTTPRequestHandler):
    "Repeats the key in whatever it says, or sends the client elsewhere; `asked` has the headers it got"
    protocol_version = 'HTTP/1.1'
    def log_message(self, *a): pass
    def do_POST(self):
        how = json.loads(self.rfile.read(int(self.headers['Content-Length'])))['model']
        self.server.asked.append({k.lower():v for k,v in self.headers.items()})
        key = self.headers['Authorization']
        status = dict(redirect=307, moved=301, unauthorized=401, bad=400, broken=500).get(how, 200)
        said = json.dumps(dict(error=dict(message=f'\x1b[2Jwrong: {key}\nall is well'))).replace('/', '\\/')
        if how=='echo':
            text = json.dumps(LABEL|dict(input_label=f'key {key}'))
            said = json.dumps(dict(id='x', object='chat.completion', created=0, model=how, choices=[dict(index=0,
                finish_reason='stop', message=dict(role='assistant', content=text))], usage=None))
        self.send_response(status)
        self.send_header('Content-Length', str(len(said)))
        self.send_header('Content-Type', 'application/json')
        if 300<=status<400: self.send_header('Location', self.server.to+'/chat/completions')
        self.end_headers()
        self.wfile.write(said.encode())

@pytest.fixture
def two(monkeypatch):
    "A server, and another one to which it sends its clients"
    made = []
    for _ in range(2):
        s = ThreadingHTTPServer(('127.0.0.1', 0), Leaky)
        s.asked,s.daemon_threads = [],True
        threading.Thread(target=s.serve_forever, daemon=True).start()
        s.url = f'http://127.0.0.1:{s.server_port}/v1'
        made.append(s)
    made[0].to = made[1].to = made[1].url
    for name in ('http_proxy','https_proxy','no_proxy','all_proxy'):
        for n in (name,name.upper()): monkeypatch.delenv(n, raising=False)
    monkeypatch.delenv('OPENAI_BASE_URL', raising=False)
    monkeypatch.setenv('OPENAI_API_KEY', 'sk-of-openai-0123456789')
    yield made
    for s in made:
        s.shutdown()
        s.server_close()

def asks(chat): return run_in_thread(lambda: chat('What is it?'))

@pytest.mark.parametrize('how', ['redirect','moved'])
def test_a_redirect_takes_neither_key_nor_prompt_elsewhere(two, how):
    with pytest.raises(RuntimeError, match='has moved to http.*neither prompt nor key were sent there'):
        asks(Chat(how, two[0].url, key=KEY, retries=0))
    assert len(two[0].asked)==1 and not two[1].asked

@pytest.mark.parametrize('how,error', [('unauthorized',RuntimeError), ('bad',ValueError), ('broken',RuntimeError),
    ('redirect',RuntimeError)])
def test_a_key_that_a_server_repeats_is_masked_in_the_whole_traceback(two, how, error):
    with pytest.raises(error) as e: asks(Chat(how, two[0].url, key=KEY, retries=0))
    said = ''.join(traceback.format_exception(e.value))
    assert KEY not in said and KEY.replace('/', '\\/') not in said and KEY[5:] not in said
    assert str(e.value).isprintable()

def test_a_key_does_not_get_into_labels(h, keys, two):
    done = label(h, Chat('echo', two[0].url, key=KEY), keys[:1], progress=False)
    assert 'key Bearer ***' in done.labels.input_label.iloc[0]
    assert KEY not in (h.path/'labels.jsonl').read_text(encoding='utf-8')

def test_the_key_of_openai_is_not_sent_to_this_machine_nor_elsewhere(two, monkeypatch):
    asks(Chat('echo', two[0].url))
    assert two[0].asked[0]['authorization']=='Bearer none'
    for url in ('https://api.other.com/v1', 'https://api.openai.com.evil.com/v1', 'https://10.0.0.5/v1'):
        with pytest.raises(ValueError, match='pass the key of that server'): Chat('m', url)
        monkeypatch.setenv('OPENAI_BASE_URL', url)  # which openai's client would take
        with pytest.raises(ValueError, match='pass the key of that server'): Chat('m')
    assert Chat('m', 'https://api.openai.com/v1')._key=='sk-of-openai-0123456789'

def test_a_proxy_does_not_see_what_is_meant_for_this_machine(two, monkeypatch):
    monkeypatch.setenv('HTTP_PROXY', two[1].url.removesuffix('/v1'))
    monkeypatch.setenv('ALL_PROXY', two[1].url.removesuffix('/v1'))
    asks(Chat('echo', two[0].url))
    assert len(two[0].asked)==1 and not two[1].asked

# a real one

def recites(folder, text, steps=150):
    "A language model that has learnt one text by heart, character by character, and says it whatever it is asked"
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    chars = ['<s>','</s>','<unk>',*sorted(set(text))]
    tok = Tokenizer(models.WordLevel({c:i for i,c in enumerate(chars)}, unk_token='<unk>'))
    tok.pre_tokenizer,tok.decoder = pre_tokenizers.Split(Regex('.'), 'isolated'),decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tok, bos_token='<s>', eos_token='</s>', unk_token='<unk>',
        chat_template='{{ bos_token }}')
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(chars), hidden_size=64, intermediate_size=128,
        num_hidden_layers=1, num_attention_heads=4, max_position_embeddings=512, bos_token_id=0, eos_token_id=1))
    x = torch.tensor([[0, *map(chars.index, text), 1]])
    opt = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(steps):
        loss = model(x, labels=x).loss
        opt.zero_grad()
        loss.backward()
        opt.step()
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)

@pytest.fixture(scope='module')
def real(tmp_path_factory):
    "`transformers serve`, with the story model and one that recites a label"
    from spd_nb.model import load
    from spd_nb.stories import story_tokenizer
    folder = tmp_path_factory.mktemp('models')
    load(ROOT/'data'/'story').target.save_pretrained(folder/'story')
    tok = story_tokenizer()
    tok.chat_template = "{{ bos_token }}{{ messages[-1]['content'] }}"
    tok.save_pretrained(folder/'story')
    recites(folder/'label', json.dumps(LABEL))
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    env = os.environ|dict(HF_HUB_OFFLINE='1', OMP_NUM_THREADS='2')
    with subprocess.Popen([Path(sys.executable).parent/'transformers','serve','--host','127.0.0.1','--port',str(port)],
            env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as p:
        try:
            for _ in range(240):
                try:
                    with urllib.request.urlopen(f'http://127.0.0.1:{port}/health', timeout=1): break
                except OSError:
                    time.sleep(.25)
                    assert p.poll() is None, 'the server did not start'
            yield f'http://127.0.0.1:{port}/v1',folder
        finally:
            p.terminate()
            try: p.wait(20)
            except subprocess.TimeoutExpired: p.kill()  # and leaving the block waits for it

def test_a_real_server_labels(h, keys, real):
    url,folder = real
    done = label(h, Chat(str(folder/'label'), url, max_tokens=300), keys[:2], progress=False)
    assert not done.failed
    assert done.labels[LABEL_SCHEMA['required']].to_dict('records')==[LABEL]*2
    assert done.tokens_out>=2*len(json.dumps(LABEL))

def test_a_real_model_that_tells_stories_gives_no_label(h, keys, real):
    url,folder = real
    done = label(h, Chat(str(folder/'story'), url, max_tokens=20), keys[:1], tries=2, progress=False)
    assert 'not a JSON object' in done.failed[keys[0]] and not h.labels.rows
    assert done.tokens_out==40
