/*
 * html_style: the style sheet of the page.
 *
 * A chart is never narrower than its labels need: one column below 1344 pixels, two above, and on a
 * telephone the charts and the tables scroll sideways.
 */
#ifndef BENCH_HTML_STYLE_H
#define BENCH_HTML_STYLE_H

static const char html_style[] =
    ":root{color-scheme:light dark;--back:#fcfcfb;--ink:#1c1e21;--soft:#5a6068;--grid:#e3e5e8;"
    "--card:#ffffff;--s0:#1f6fd6;--s1:#d9730d;--s2:#2b8a3e;--s3:#c2255c}\n"
    "@media(prefers-color-scheme:dark){:root{--back:#15171a;--ink:#e8eaed;--soft:#a0a7b0;"
    "--grid:#2e3238;--card:#1c1f23;--s0:#6aa9ff;--s1:#ffb061;--s2:#69db7c;--s3:#ff8fb3}}\n"
    "body{margin:0 auto;max-width:1400px;padding:24px;background:var(--back);color:var(--ink);"
    "font:15px/1.5 system-ui,sans-serif}\n"
    "h1{font-size:24px;margin:0 0 4px}h2{font-size:18px;margin:28px 0 8px}p{margin:4px 0}\n"
    ".soft{color:var(--soft)}.warn{border-left:4px solid var(--s3);padding:4px 12px}\n"
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(640px,100%),1fr));gap:"
    "16px;"
    "margin-top:16px}\n"
    "svg{width:100%;height:auto;background:var(--card);border:1px solid var(--grid);"
    "border-radius:6px}\n"
    "svg text{fill:var(--ink);font-size:12px}svg .tick,svg .name{fill:var(--soft)}\n"
    "svg .title{font-size:14px;font-weight:600}\n"
    ".grid{stroke:var(--grid);stroke-width:1}.axis{stroke:var(--soft);stroke-width:1}\n"
    ".line{fill:none;stroke-width:2}.dashed{stroke-dasharray:6 4}\n"
    ".line.s0{stroke:var(--s0)}.line.s1{stroke:var(--s1)}.line.s2{stroke:var(--s2)}"
    ".line.s3{stroke:var(--s3)}\n"
    ".dot.s0,.bar.s0{fill:var(--s0)}.dot.s1,.bar.s1{fill:var(--s1)}.dot.s2,.bar.s2{fill:var(--s2)}"
    ".dot.s3,.bar.s3{fill:var(--s3)}\n"
    "@media(max-width:600px){body{padding:12px}h1{font-size:19px;overflow-wrap:anywhere}"
    ".charts{overflow-x:auto}.charts svg{min-width:600px}svg text{font-size:15px}th,td{padding:3px "
    "6px}}\n"
    "code{overflow-wrap:anywhere}.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-"
    "numeric:tabular-nums}\n"
    "th,td{padding:3px 12px;text-align:right;border-bottom:1px solid var(--grid)}\n"
    "th{color:var(--soft);font-weight:500}td:first-child,th:first-child{text-align:left;"
    "padding-left:0}\n";

#endif
