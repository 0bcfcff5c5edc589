import pytest

from tests.templates.gotemplate.rendering import render

# The expectations are what Go 1.26 prints.


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        ('"%s|%q|%x|%X|% x|%5s|%-5s|%.2s" "é" "a\\"\\n" "hi" "hi" "hi" "é" "é" "été"',
         'é|"a\\"\\n"|6869|6869|68 69|    é|é    |ét'),
        ('"%d|%5d|%-5d|%05d|%+d|% d|%x|%#x|%o|%b|%c|%U|%q" 42 42 42 -42 42 42 255 255 8 5 233 233 233',
         "42|   42|42   |-0042|+42| 42|ff|0xff|10|101|é|U+00E9|'é'"),
        ('"%v|%f|%.2f|%8.3f" 1.5 1.5 3.14159 3.14159', "1.5|1.500000|3.14|   3.142"),
        ('"%e|%g|%G" 1500.0 1e21 1e-7', "1.500000e+03|1e+21|1E-07"),
        ('"%v %v %v" 100000.0 1000000.0 0.00001', "100000 1e+06 1e-05"),
        ('"%t|%v|%v|%+v" true false nil 3', "true|false|<nil>|3"),
        ('"%T|%T|%T|%T" 3 1.5 "s" nil', "int|float64|string|<nil>"),
        ('"%#v %#v %#v" "a" 3 nil', '"a" 3 <nil>'),
        ('"%[2]d %[1]d %d" 1 2', "2 1 2"),
        ('"%*d|%-*d|%.*f" 5 1 5 1 1 2.55', "    1|1    |2.5"),
        ('"%d" "x"', "%!d(string=x)"),
        ('"%s" 3', "%!s(int=3)"),
        ('"%d %d" 1', "1 %!d(MISSING)"),
        ('"%d" 1 "x" nil', '1%!(EXTRA string=x, <nil>)'),
        ('"%z" 1', "%!z(int=1)"),
        ('"%"', "%!(NOVERB)"),
        ('"100%%"', "100%"),
        ('"%[5]d" 1', "%!d(BADINDEX)"),
        ('"%99999999d" 1', "%!(BADWIDTH)1"),
    ],
)  # fmt: skip
def test_printf(arguments: str, output: str) -> None:
    assert render(f"{{{{ printf {arguments} }}}}") == output


@pytest.mark.parametrize(
    ("call", "output"),
    [
        ('print 1 2 "a" 3 "b" "c" true false', "1 2a3bctrue false"),
        ("println 1 `a` nil", "1 a <nil>\n"),
        ("print 1e20 1.0 nil", "1e+20 1 <nil>"),
        ('html "<a href=\'x\'>&\\"" 1', "&lt;a href=&#39;x&#39;&gt;&amp;&#34;1"),
        ('js "a\'b<c>\\n=\\u2028"', "a\\'b\\u003Cc\\u003E\\u000A\\u003D\\u2028"),
        ('urlquery "a b&é/"', "a+b%26%C3%A9%2F"),
        ('json "<é>\\u2028\\xff"', '"\\u003cé\\u003e\\u2028\\ufffd"'),
        ("json 1e21", "1e+21"),
        ("json 100000000000000000000.0", "100000000000000000000"),
        ("json 1e-7", "1e-7"),
        ("json 2i", ""),
        ("json nil", "null"),
    ],
)
def test_functions_that_make_text(call: str, output: str) -> None:
    assert render(f"{{{{ {call} }}}}") == output
