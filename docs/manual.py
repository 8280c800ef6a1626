#!/usr/bin/env python3
"""Makes the section-3 manual from core/xchg.h: docs/manual.py FOLDER.

A banner `/* ---- xchg_send(3): what it is for ---- */` begins a page. What follows it in the header
is the page's text:

  /** ... */      documents the functions up to the next blank line. `name(parameters):` on a line
                  begins the text of one of several functions. Return:, Errors:, Thread:, Own: and
                  Note: begin a field, which ends with the comment or the next field.
  /* ... */       documents the type, the constant or the field next to it
  ${name}         a parameter or a field
  Errors:         a list as `EPERM, EINVAL (the reason)`. Errors without a reason are explained in
                  the first comment of the header.

A call that takes a connection belongs to the connection's worker, other calls to any thread, unless
Thread: says otherwise. The first comment of the header and docs/man/libxchg.3.in make the overview,
docs/man/examples/PAGE*.c the examples. Each further function of a page gets a page that refers to it.
"""

import glob
import os
import re
import sys
import textwrap

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WIDTH = 72  # of a prototype
FIELDS = ("Return", "Errors", "Thread", "Own", "Note")
ON_WORKER, ANYWHERE = "the connection's worker", "any"
TOKEN = re.compile(r"""(?P<comment>/\*.*?\*/)
                     | ^\#define\ (?P<constant>XCHG_\w+)(?P<macro>\(\w+\))?(?:[^\n/\\]|\\\n)*
                     | ^(?P<kind>struct|enum)\ (?P<type>\w+)\ \{(?P<body>.*?)\};
                     | ^(?P<prototype>[a-z][^;{}\#]*\);)
                     | (?P<blank>\n[ ]*(?=\n))""", re.S | re.M | re.X)


def read(*path):
    with open(os.path.join(TOP, *path)) as f:
        return f.read()


def uncomment(comment):
    """The text of a comment, without what makes it one."""
    inner = re.sub(r"^/\*+|\*/$", "", comment)
    return "\n".join(re.sub(r"^ *\* ?", "", line).rstrip() for line in inner.split("\n")).strip()


# ---- the header ----


class Function:
    """A function, or a function type, with its documentation."""

    def __init__(self, prototype, comment):
        self.name = re.search(r"(\w+)\(", prototype).group(1)
        self.prototype = re.sub(r"\s+", " ", prototype)
        self.parameters = re.findall(r"(\w+)(?=[,)])", self.prototype)
        self.typedef = prototype.startswith("typedef ")
        parts = re.split(r"(?:^|(?<=[.)]) )(%s): " % "|".join(FIELDS), comment, flags=re.M)
        fields = dict(zip(parts[1::2], parts[2::2]))
        texts = re.split(r"^(\w+)\([^()]*\):\n", parts[0], flags=re.M)
        self.text = dict(zip(texts[1::2], texts[2::2])).get(self.name, texts[0]).strip()
        if not self.text:
            sys.exit(f"core/xchg.h: {self.name} has no comment")
        first = self.prototype.split("(", 1)[1]
        self.thread = fields.get("Thread", ON_WORKER if re.match(r"(const )?struct xchg_conn \*", first) else ANYWHERE)
        self.returns = fields.get("Return", self.default_return())
        listed = re.sub(r"\s+", " ", fields.get("Errors", ""))
        errors = re.findall(r"(E[A-Z]+)(?: \(((?:[^()]|\([^()]*\))*)\))?[,.]", listed)
        self.errors = [(name, why) for name, why in errors if set(re.findall(r"\$\{(\w+)\}", why)) <= set(self.parameters)]
        self.notes = [fields[name] for name in ("Own", "Note") if name in fields]

    def default_return(self):
        if self.prototype.startswith("void ") and not self.prototype.startswith("void *"):
            return ""
        return "0, or -1 with errno set." if self.prototype.startswith("int ") else self.text

    def call(self):
        """As a reader would write it: the names of the parameters."""
        top = re.sub(r"\(\*(\w+)\)\([^()]*\)", r"\1", self.prototype.split("(", 1)[1])
        return self.name + "(" + ", ".join("${%s}" % name for name in re.findall(r"(\w+)(?=[,)])", top)) + ")"


def fields_of(kind, body):
    """[declarations, comment] of the fields or constants: one that stands before several belongs to all of them."""
    found, before = [], None
    item = r"[^;/\s][^;/]*;" if kind == "struct" else r"\w+"
    for match in re.finditer(rf"/\*.*?\*/|\n\s*\n|{item}", body, re.S):
        text = match.group(0)
        if text.startswith("/*") and body[body.rfind("\n", 0, match.start()) + 1:match.start()].strip():
            declaration = found[-1][0].pop()
            found = [*(entry for entry in found if entry[0]), [[declaration], [uncomment(text)]]]
        elif text.startswith("/*"):
            before = [uncomment(text)]
        elif not text.strip():
            before = None
        elif before and found and found[-1][1] is before:
            found[-1][0].append(re.sub(r"\s+", " ", text.strip(";")))
        else:
            found.append([[re.sub(r"\s+", " ", text.strip(";"))], before])
    return [("; ".join(declarations), comment[0] if comment else "") for declarations, comment in found]


class Page:
    def __init__(self, name, title):
        self.name, self.title, self.functions, self.macros, self.types = name, title, [], {}, []

    def names(self):
        """What its NAME lists."""
        calls = [function.name for function in self.functions if not function.typedef]
        return calls if self.name in calls else [self.name, *calls]

    def add(self, source):
        comment = ""
        for match in TOKEN.finditer(source):
            if match["comment"]:
                comment = uncomment(match["comment"])
                line = source[source.rfind("\n", 0, match.start()) + 1:match.start()]
                if line.startswith("#define"):
                    self.types[-1][1], comment = comment, ""
            elif match["macro"]:
                self.macros[match["constant"]], comment = comment, ""
            elif match["constant"]:
                self.types.append([match["constant"], comment, None])
                comment = ""
            elif match["type"]:
                self.types.append([f"{match['kind']} {match['type']}", comment, fields_of(match["kind"], match["body"])])
            elif match["prototype"]:
                self.functions.append(Function(match["prototype"], comment))
            else:
                comment = ""


def parse_header():
    """The first comment, and the pages."""
    header = read("core/xchg.h")
    parts = re.split(r"^/\* ---- (\w+)\(3\): (.*?) ---- \*/$", header, flags=re.M)
    pages = []
    for name, title, source in zip(parts[1::3], parts[2::3], parts[3::3]):
        pages.append(Page(name, title))
        pages[-1].add(source)
    return uncomment(re.match(r"/\*.*?\*/", header, re.S).group(0)), pages


# ---- roff ----


class Roff:
    """Text with the fonts of a manual; ${own} are the functions of the page itself."""

    def __init__(self, home, fields, own=()):
        self.home, self.fields, self.own = home, fields, own

    def mark(self, match):
        word = match.group(0)
        if word.startswith("${"):
            return f"\\fI{word[2:-1]}\\fR"
        if word in self.home:
            return f"\\fB{word}\\fR" if word in self.own else f"\\fB{word}\\fR(3)"
        if word.startswith(("struct ", "enum ")) or word in self.fields:
            return f"\\fI{word}\\fR"
        if word.startswith(("XCHG_", "--")):
            return f"\\fB{word}\\fR"
        return re.sub(r"^(\w[\w-]*)(\(\d\))$", r"\\fB\1\\fR\2", word)

    def inline(self, text):
        text = re.sub(r"\s+", " ", text.strip()).replace("\\", "\\e")
        text = re.sub(r"\$\{\w+\}|(?:struct|enum) xchg_\w+|\b[a-z][\w-]*\(\d\)|\bXCHG_\w+(?:=\w+)?|--[a-z]+|\b\w+\b", self.mark, text)
        text = re.sub(r"(?<![\w\\])-(?=[\w-])", r"\\-", text.replace("--", "\\-\\-"))
        return re.sub(r"^(?=[.'])", r"\\&", text)

    def sentence(self, text):
        """With a capital and a full stop."""
        text = text.strip()
        text = text[0].upper() + text[1:] if re.match(r"[a-z]+\b(?![_(])", text) else text
        return self.inline(text if text.endswith((".", ":")) else text + ".")

    def blocks(self, text, between=".PP"):
        """Paragraphs; lines `  term  text` are a list, other indented lines stay as they are."""
        lines = []
        for block in re.split(r"\n\s*\n", text):
            if not block.startswith("  "):
                lines += [between, self.inline(block)]
            elif re.match(r"  \S+(?: \S+)*  +\S", block):
                for term, rest in re.findall(r"^  (\S+(?: \S+)*)  +(\S.*\n?(?:   .*\n?)*)", block, re.M):
                    lines += [".TP", self.inline(term), self.sentence(rest)]
            else:
                lines += [between, ".RS 2", ".nf", *(self.inline(line) for line in block.split("\n")), ".fi", ".RE"]
        return lines[1:] if lines[0] == between else lines

    def grouped(self, functions, value, named=False):
        """The functions by what ${value} says of them; one answer for all is a paragraph, unless ${named}."""
        groups = {}
        for function in functions:
            if value(function):
                groups.setdefault(value(function), []).append(function.name)
        if len(groups) == 1 and sum(map(len, groups.values())) == len(functions) and not named:
            return [self.sentence(text) for text in groups]
        return [line for text, names in groups.items() for line in (".TP", self.inline(", ".join(names)), self.sentence(text))]


def prototype_lines(function):
    """The prototype in lines of WIDTH, parameters in italics."""
    text = function.prototype
    head = text[:text.index("(") + 1]
    if len(text) > WIDTH and len(head) > WIDTH // 2 and "*" in head:  # the type has a line of its own
        cut = head.rindex("*") + 1
        lines, text, head = [text[:cut]], text[cut:], head[cut:]
    else:
        lines = []
    whole = re.sub(r"\)\([^()]*\)", lambda match: match.group(0).replace(" ", "\0"), text)
    whole = re.sub(r"(?<!,) ", "\0", whole)  # it is broken after commas of its own
    lines += textwrap.wrap(whole, WIDTH, subsequent_indent=" " * len(head), break_on_hyphens=False)
    lines = [line.replace("\0", " ") for line in lines]
    return ["\\fB" + re.sub(r"\b(\w+)(?=[,)])", r"\\fI\1\\fB", line) + "\\fR" for line in lines]


def examples(roff, page):
    lines = []
    for path in (f"docs/man/examples/{page}{number}.c" for number in ("", "-2")):
        if not os.path.exists(os.path.join(TOP, path)):
            continue
        intro, code = re.match(r"(/\*.*?\*/)\n(.*)", read(path), re.S).groups()
        for sign, escape in (("\\", "\\e"), ("-", "\\-"), ("'", "\\(aq"), ("`", "\\(ga"), ("^", "\\(ha"), ("~", "\\(ti")):
            code = code.replace(sign, escape)
        lines += [".PP", *roff.blocks(uncomment(intro)), ".PP", ".RS 2", ".EX", code.rstrip("\n"), ".EE", ".RE"]
    return lines[1:]


def error_lines(roff, functions, standard):
    """Each error once, with the calls that it belongs to, if it is not all of them."""
    lines, found = [], {}
    for function in functions:
        for name, text in function.errors:
            found.setdefault(name, {}).setdefault(text or standard[name], []).append(function.name)
    for name, texts in found.items():
        lines += [".TP", f"\\fB{name}\\fR"]
        for text, names in texts.items():
            lines += [f"({roff.inline(', '.join(names))})"] if len(functions) > len(names) else []
            lines += [roff.sentence(text)]
    return lines or ["None."]


def description(roff, page):
    calls = [function for function in page.functions if not function.typedef]
    lines = []
    for function in calls:
        lines += [".TP", roff.inline(function.call()), *roff.blocks(function.text, ".IP")]
    for name, text in page.macros.items():
        lines += [".TP", roff.inline(name), roff.inline(text)]
    for function in page.functions:
        if function.typedef:
            lines += [f".SS {function.name}", ".nf", *prototype_lines(function), ".fi", ".PP", *roff.blocks(function.text)]
    for name, text, fields in sorted(page.types, key=lambda entry: entry[2] is not None):
        if fields is None and not text:
            continue  # another text explains it
        if fields is None:
            lines += [".TP", roff.inline(name), roff.sentence(text)]
            continue
        if not any(comment for _, comment in fields):
            lines += [".TP", roff.inline(name), roff.sentence(", ".join(word for word, _ in fields))]
            continue
        lines += [f".SS {name}"] + roff.blocks(re.split(r"^(?:Thread|Note): ", text, flags=re.M)[0] or "It has these fields:")
        for declaration, comment in fields:
            if name.startswith("struct"):
                declaration = re.sub(r"(\w+)(?=\[|\)\(|$|, |;)", r"${\1}", declaration)
            if not comment:
                sys.exit(f"core/xchg.h: {declaration} of {name} has no comment")
            tag = roff.inline(declaration)
            lines += [".TP", tag, *([".br"] if len(tag) > WIDTH else []), roff.sentence(comment)]
    return lines


def render(page, roff, standard, date):
    calls = [function for function in page.functions if not function.typedef]
    type_fields = {kind: [re.sub(r"\s+", " ", text) for _, comment, fields in page.types if fields is not None
                          for text in re.findall(rf"^{kind}: (.*?)(?=^(?:Thread|Note): |\Z)", comment, re.M | re.S)] for kind in FIELDS}
    body = ".SH DESCRIPTION", *description(roff, page)
    returns = ".SH RETURN VALUE", *roff.grouped(calls, lambda function: function.returns)
    errors = ".SH ERRORS", *error_lines(roff, calls, standard)
    threads = [".SH THREADS", *(roff.sentence(text) for text in type_fields["Thread"]),
               *roff.grouped(calls, lambda function: function.thread, bool(type_fields["Thread"]))]
    notes = {}
    for function, text in [(function, text) for function in calls for text in function.notes]:
        notes.setdefault(text, []).append(function.name)
    notes = [line for text, names in notes.items()
             for line in (".PP", *([roff.inline(", ".join(names)) + ":"] if len(calls) > len(names) else []), roff.sentence(text))]
    notes += [line for text in type_fields["Note"] for line in (".PP", roff.sentence(text))]
    notes = [".SH NOTES", *notes[1:]]
    text = "\n".join([*body, *returns, *errors, *threads, *notes])
    found = {(home, "3") for home in (roff.home.get(name) for name in re.findall(r"\\fB(\w+)\\fR", text)) if home} | \
            {("libxchg", "3")} | set(re.findall(r"\\fB([\w-]+)\\fR\((\d)\)", text))
    found |= {("xchg_handler", "3")} if re.search(r"\bon_[a-z]+", text) else set()
    see = {(roff.home.get(name, name), section) for name, section in found} - {(page.name, "3")}
    return [f'.TH {page.name.upper()} 3 {date} "xchg" "Library Functions Manual"', ".SH NAME",
            f"{', '.join([*page.names(), *page.macros])} \\- {page.title}", ".SH SYNOPSIS", ".nf", "\\fB#include <xchg.h>\\fR", ".PP",
            *(line for function in calls for line in prototype_lines(function)),
            *(f"\\fB{name}(\\fIhandler\\fB)\\fR" for name in page.macros), ".fi", text, ".SH EXAMPLES",
            *examples(roff, page.name), ".SH SEE ALSO",
            ",\n".join(f"\\fB{name}\\fR({section})" for name, section in sorted(see, key=lambda item: (item[1], item[0])))]


def overview(essay, pages, roff):
    rules, errors = [block for block in re.split(r"\n\n", essay) if block.startswith("  ")]
    calls = []
    for page in pages:
        calls += [".TP", roff.inline(", ".join(name if name in roff.home else f"{name}(3)" for name in page.names())),
                  roff.sentence(page.title)]
    parts = {"RULES": roff.blocks(rules), "ERRORS": roff.blocks(errors), "CALLS": calls, "EXAMPLES": examples(roff, "libxchg")}
    text = re.sub(r"^\.\\\".*\n", "", read("docs/man/libxchg.3.in"))
    return re.sub(r"^@(\w+)@$", lambda match: "\n".join(parts[match.group(1)]), text, flags=re.M), errors


def main():
    folder = sys.argv[1]
    essay, pages = parse_header()
    home = {name: page.name for page in pages for name in page.names()}
    fields = {word for page in pages for _, _, members in page.types for declaration, _ in members or ()
              for word in re.findall(r"[a-z]+_\w+", declaration) if not word.startswith(("xchg_", "uint", "size_t"))}
    text, errors = overview(essay, pages, Roff(home, fields))
    standard = dict(re.findall(r"^  (E[A-Z]+) +(.*)$", errors, re.M))
    date = re.search(r"^\.TH \w+ 3 (\S+)", text, re.M).group(1)
    os.makedirs(folder, exist_ok=True)
    for old in glob.glob(os.path.join(folder, "*.3")):
        os.remove(old)
    made = {"libxchg": text}
    for page in pages:
        made[page.name] = "\n".join(render(page, Roff(home, fields, page.names()), standard, date)) + "\n"
        made.update({name: f".so man3/{page.name}.3\n" for name in page.names() if name != page.name})
    for name in sorted(made, key=lambda name: name == "libxchg"):  # the last one is what make looks at
        with open(os.path.join(folder, name + ".3"), "w") as f:
            f.write(made[name])


if __name__ == "__main__":
    main()
