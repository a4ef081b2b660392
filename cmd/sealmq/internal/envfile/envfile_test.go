package envfile

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct{ name, text, want, err string }{
		{name: "plain", text: "# comment\n\nA=b\nexport C = d \nE=\n", want: "A=b C=d E="},
		{name: "comments and signs", text: "A=b#c # d\nB=#x\nC=p$ss$HOME\nD=a=b\nE=x\t# y\n", want: "A=b#c B= C=p$ss$HOME D=a=b E=x"},
		{name: "quotation marks", text: "A=\"b # c\" # d\nB='x\\n\"'\nC=\"x\\n\\\"y\\\"\"\nD=it's", want: "A=b # c B=x\\n\" C=x\n\"y\" D=it's"},
		{name: "several lines", text: "A=\"one\ntwo\"\nB=c\nwhat", err: ".env:4: is not NAME=VALUE"},
		{name: "from Windows", text: "\ufeffA=b\r\nC='d'\r\n", want: "A=b C=d"},
		{name: "no end", text: "A=b\nB=\"c\n", err: ".env:2: B has no closing quotation mark"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lines, err := Parse(".env", []byte(tt.text))
			var got []string
			for _, l := range lines {
				got = append(got, l.Name+"="+l.Value)
			}
			if text := strings.Join(got, " "); text != tt.want || err == nil && tt.err != "" || err != nil && err.Error() != tt.err {
				t.Errorf("got %q, %v; want %q, %q", text, err, tt.want, tt.err)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"A=b", "A=\"b\nc\"", "A='", "export A=\\", "A=\"\\"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		lines, _ := Parse(".env", []byte(s))
		for _, l := range lines {
			if l.Name == "" || len(l.Value) > len(s) {
				t.Errorf("%q has %+v", s, l)
			}
		}
	})
}
