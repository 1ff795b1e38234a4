"Messages to a view as a browser sends them"
import json

def caller(view):
    "A function that calls a method of `view` as its front end does, and gives the answer or the error"
    sent = []
    view.send = sent.append
    def call(ask, **args):
        sent.clear()
        view._handle_custom_msg(dict(id=1, ask=ask, args=args), [])
        reply, = sent
        return json.loads(json.dumps(reply.get('answer', reply.get('error')), allow_nan=False))
    return call
