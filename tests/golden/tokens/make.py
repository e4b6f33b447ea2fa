"""Makes the golden cases of tests/unit/tokens from Hugging Face's tokenizers, Google's SentencePiece and Pallets' Jinja:

    pip install tokenizers==0.23.3 sentencepiece==0.2.3 jinja2==3.1.6
    python tests/golden/tokens/make.py

Small vocabularies whose merges cross words, digits and punctuation, so that a wrong split shows in the ids.
"""

import io
import json
import pathlib
import random

import jinja2
import jinja2.sandbox
import sentencepiece
import tokenizers
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers

FOLDER = pathlib.Path(__file__).parent
MADE_BY = "tests/golden/tokens/make.py"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
USER_DEFINED = ["<tool_call>"]

CORPUS = """The ship came into the harbour at 10:45 on 2024-11-24, and 1,234,567 people weren't there to see it; they'd gone home.
def median(values): return sorted(values)[len(values) // 2] if values else None  # 3.14159, 0x1F, 100%
I'll say it's what we've always said: don't, can't, won't! "Isn't that so?" she asked... and he'd agreed, 12 times.
for (let i = 0; i < 10; i++) { total += items[i].price * (1 + tax); }  // => 42
日本語のテキストを書く。我不为在的。 Привет, мир! שלום مرحبا naïve café façade Ångström e\u0301 가각 🙂👩‍👩‍👧 ½ ² ③ Ⅳ ٣٤٥ १२३
a ` b ` c `d` `e` ``f`` ```js ` g ` h
\t\tif (x == y)\r\n\r\n    return;   two  spaces\u00a0nbsp\u3000wide\u0085next\ufeffbom\u200bzero
"""

STRINGS = [
    "", " ", "  ", "\n", "Hello, world!", " leading", "trailing ", "two  spaces   three", "tabs\tand\nlines\r\n\r\n\n", "I'll we've IT'S CAN'T 'tis",
    "3.14159 2024-11-24 1,234,567 0x1F", " 12 123 1234 12345", "１２３ ٣٤٥६७ ½²③Ⅳ ௧௨", "naïve café e\u0301 a\u030a Å ﬁ", "日本語のテキスト我不为在的乲",
    "Привет, мир", "שלום مرحبا", "🙂👩‍👩‍👧🇫🇷👍🏽", "가각 ᄀ\u1161", "a\u0085b\u0085 c", "a\ufeffb \ufeff c", "nbsp\u00a0\u00a0x", "wide\u3000\u3000y", "zero\u200b width",
    "snake_case, camelCase; kebab-case", "x=[1,2,3]; y={a:`b`}", "a+b=c^d~e|f<g>h$i", "((()))...!!!---", "https://example.org/a?b=c&d=%20#e",
    "<|im_start|>user\nHi<|im_end|>\n", "<|im_end|><|im_end|>", "<tool_call>{}</tool_call>", "<|not_special|> <|im_", "a<|endoftext|>b",
    " quokka quokka", "a ` b `c` ``", "aaaaaaaaaaaaaaaaaaaaaaaa", "\x00\x01\x1f", "▁under▁line", "<0x0A><s>", "ſ 'ſ 'S 'LL 'Re",
]


def random_strings(count):
    pieces = ["a", "the ", "don't", "I'LL", "12", "1234", " ", "  ", "\n", "\r\n", "\t", "\u0085", "\ufeff", "\u00a0", "½", "٣", "²", ".", "...", "`", "$", "_", "=>",
              "日", "語", "é", "e\u0301", "🙂", "👩‍👧", "가", "<|im_end|>", "<tool_call>", "Hello", " world", "ش", "م", "Ж"]
    choose = random.Random(7)
    return ["".join(choose.choice(pieces) for _ in range(choose.randint(2, 12))) for _ in range(count)]


def split(pattern):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
GPT2 = {**BYTES, "use_regex": True}
GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3_PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
THREE_DIGITS = split("[0-9][0-9][0-9]")

# Pre-tokenizers as the models' own tokenizer.json have them, by the name that llama.cpp gives them; null for one that GGUFs do not name.
BYTE_PAIR = [
    ("gpt-2", {"pre_tokenizer": GPT2}),
    ("smollm", {"pre_tokenizer": sequence({"type": "Digits", "individual_digits": True}, GPT2)}),
    ("qwen2", {"normalizer": {"type": "NFC"}, "pre_tokenizer": sequence(split(LLAMA3_PATTERN.replace("{1,3}", "")), BYTES)}),
    ("llama-bpe", {"pre_tokenizer": sequence(split(LLAMA3_PATTERN), BYTES), "ignore_merges": True}),
    ("falcon", {"pre_tokenizer": sequence({"type": "Punctuation", "behavior": "Contiguous"}, GPT2, THREE_DIGITS)}),
    ("default", {"pre_tokenizer": sequence(split(r"[\p{P}\$\+<=>\^~\|]+"), split(GPT2_PATTERN), split(r"\p{N}+"), THREE_DIGITS, BYTES)}),
    (None, {"pre_tokenizer": sequence({"type": "Punctuation", "behavior": "Isolated"}, {"type": "Digits", "individual_digits": False}, BYTES)}),
]


def byte_pair():
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trained.train_from_iterator(
        CORPUS.splitlines(keepends=True) * 3,
        trainers.BpeTrainer(vocab_size=700, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False),
    )
    unmerged = json.loads(trained.to_str())
    unmerged["model"]["vocab"]["Ġquokka"] = trained.get_vocab_size()  # a token that no merges lead to
    trained = Tokenizer.from_str(json.dumps(unmerged))
    trained.add_tokens([AddedToken(token, normalized=False) for token in USER_DEFINED])
    base = json.loads(trained.to_str())
    base["decoder"] = GPT2
    strings = STRINGS + random_strings(60)
    cases = []
    for name, changes in BYTE_PAIR:
        case = {"normalizer": None, "ignore_merges": False, **changes}
        whole = {**base, "normalizer": case["normalizer"], "pre_tokenizer": case["pre_tokenizer"], "model": {**base["model"], "ignore_merges": case["ignore_merges"]}}
        made = Tokenizer.from_str(json.dumps(whole))
        ids = [made.encode(text, add_special_tokens=False).ids for text in strings]
        cases.append({"name": name, **case, "ids": ids, "decoded": [made.decode(each, skip_special_tokens=False) for each in ids]})
    return {"madeBy": MADE_BY, "tokenizers": tokenizers.__version__, "tokenizer": base, "strings": strings, "cases": cases}


def sentence_piece():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for line in CORPUS.splitlines() for _ in range(3)]), model_writer=model, model_type="bpe", vocab_size=700, byte_fallback=True,
        character_coverage=0.98, normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True, allow_whitespace_only_pieces=True, minloglevel=2,
    )
    made = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    ids = range(made.vocab_size())
    types = [2 if made.is_unknown(i) else 3 if made.is_control(i) else 6 if made.is_byte(i) else 1 for i in ids]
    tokens, scores = [made.id_to_piece(i) for i in ids], [made.get_score(i) for i in ids]
    strings = [text for text in STRINGS + random_strings(60) if "<s>" not in text]
    encoded = [made.encode(text) for text in strings]
    return {
        "madeBy": MADE_BY, "sentencepiece": sentencepiece.__version__, "tokens": tokens, "scores": scores, "types": types, "strings": strings, "ids": encoded,
        "decoded": [made.decode(each) for each in encoded], "cases": sentence_piece_cases(tokens, scores),
    }


def sentence_piece_cases(tokens, scores):
    """What converters make of it: merges by score, and the two ways in which they write the space in front of a text."""
    vocab = {token: index for index, token in enumerate(tokens)}
    pairs = [(token[:at], token[at:], score) for token, score in zip(tokens, scores) for at in range(1, len(token)) if token[:at] in vocab and token[at:] in vocab]
    pairs.sort(key=lambda pair: (pair[2], len(pair[0]), len(pair[1])), reverse=True)
    mark = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    metaspace = {"type": "Metaspace", "replacement": "▁"}
    frames = [
        ("legacy", {"normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, mark]}, "pre_tokenizer": None}),
        ("first", {"normalizer": None, "pre_tokenizer": {**metaspace, "prepend_scheme": "first", "split": False}}),
        ("split", {"normalizer": None, "pre_tokenizer": {**metaspace, "prepend_scheme": "always", "split": True}}),
    ]
    steps = [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]
    added = [{"id": i, "content": tokens[i], "special": True, "normalized": False, "single_word": False, "lstrip": False, "rstrip": False} for i in range(3)]
    bos = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    strings = ["", " ", "Hi there", " Hi  there ", "<s>Hi</s> there", "a</s>b<unk> c", "naïve 🙂\n乲", "   three"]
    cases = []
    for name, frame in frames:
        json_file = {
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, **frame, "decoder": {"type": "Sequence", "decoders": steps},
            "post_processor": {"type": "TemplateProcessing", "single": [bos, text], "pair": [bos, text, text], "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
            "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": True,
                      "byte_fallback": True, "ignore_merges": False, "vocab": vocab, "merges": [[left, right] for left, right, _ in pairs]},
        }
        made = Tokenizer.from_str(json.dumps(json_file))
        ids = [made.encode(text).ids for text in strings]
        if cases:
            json_file["model"] = None  # the first case's
        decoded = [{"all": made.decode(each, skip_special_tokens=False), "plain": made.decode(each)} for each in ids]
        cases.append({"name": name, "tokenizer": json_file, "strings": strings, "ids": ids, "decoded": decoded})
    return cases


TEMPLATES = {
    "turns": "{% for message in messages %}\n    {{- '<|im_start|>' + message['role'] + '\\n' + message.content | trim + '<|im_end|>\\n' }}\n{% endfor %}\n{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "system in front": "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set rest = messages[1:] %}{% else %}{% set system = none %}{% set rest = messages %}{% endif %}{{ bos_token }}{% for message in rest %}{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}{% if message.role == 'user' %}[INST] {% if loop.first and system is not none %}{{ system ~ '\\n\\n' }}{% endif %}{{ message.content.strip() }} [/INST]{% else %} {{ message.content }}{{ eos_token }}{% endif %}{% endfor %}",
    "tools": "{%- if tools is not none %}TOOLS{{ tools | tojson }}{%- endif %}{%- if documents is defined and documents %}DOCUMENTS{% endif %}{%- set ns = namespace(turns=0) %}{%- for message in messages %}{%- set ns.turns = ns.turns + 1 %}{{ ns.turns }}:{{ message.role | upper }}={{ message.role | length }}{% if not loop.last %}, {% endif %}{%- endfor %}{%- if tools is not defined %}NEVER{% endif %}",
    "ranges": "{% for i in range(3) %}{{ i }}{% endfor %}|{% for i in range(2, 9, 3) %}{{ i }}{% endfor %}|{% for i in range(5, 0, -2) %}{{ i }}{% endfor %}|{{ messages | map(attribute='role') | join(',') }}|{{ 'T' if True and not False }}|{{ 'N' if None is none }}",
    "macro": "{% macro turn(role, text) %}<{{ role }}>{{ text }}</{{ role }}>{% endmacro %}{% for m in messages %}{{ turn(m.role, m.content) }}{% endfor %}{{ pad_token if pad_token is defined else 'no pad' }}",
}
CHATS = [
    [{"role": "user", "content": "Hi"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": " What's 2 + 2? "}],
    [{"role": "user", "content": "<b>\n{{ 1 }}"}, {"role": "assistant", "content": "Four."}, {"role": "user", "content": "日本 🙂"}],
    [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
]


def chat_templates():
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    environment.globals["raise_exception"] = raise_exception
    cases = []
    for name, source in TEMPLATES.items():
        for messages in CHATS:
            for add_generation_prompt in (True, False):
                try:
                    text = environment.from_string(source).render(
                        messages=messages, tools=None, documents=None, add_generation_prompt=add_generation_prompt, bos_token="<s>", eos_token="</s>"
                    )
                except jinja2.exceptions.TemplateError:
                    text = None
                cases.append({"template": name, "messages": messages, "addGenerationPrompt": add_generation_prompt, "text": text})
    return {"madeBy": MADE_BY, "jinja2": jinja2.__version__, "templates": TEMPLATES, "cases": cases}


for file, make in [("byte-pair", byte_pair), ("sentencepiece", sentence_piece), ("chat-templates", chat_templates)]:
    (FOLDER / f"{file}.json").write_text(json.dumps(make(), ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
