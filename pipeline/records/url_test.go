package records

import (
	"strings"
	"testing"
)

func TestParseURL(t *testing.T) {
	for in, want := range map[string]address{
		"sqlite:records.db":              {path: "records.db"},
		"sqlite:/var/lib/records.db":     {path: "/var/lib/records.db"},
		"sqlite:////var/lib/records.db":  {path: "/var/lib/records.db"},
		"sqlite:///records.db":           {path: "records.db"},
		`sqlite:C:\data\records.db`:      {path: `C:\data\records.db`},
		"mysql+pymysql://u:p@h:3307/db":  {host: "h", port: "3307", name: "db", user: "u", password: "p"},
		"mysql://u@h/db":                 {host: "h", port: "3306", name: "db", user: "u"},
		"MariaDB+x://u@h/db?charset=utf": {host: "h", port: "3306", name: "db", user: "u"},
		"mysql+pymysql://systemuser:StrongPass123!@localhost/message_system": {host: "localhost", port: "3306", name: "message_system", user: "systemuser", password: "StrongPass123!"},
		"mysql://u:p@ss:w/rd@h/db":               {host: "h", port: "3306", name: "db", user: "u", password: "p@ss:w/rd"},
		"mysql://u%40x:p%3A%2F%25+@h/db":         {host: "h", port: "3306", name: "db", user: "u@x", password: "p:/%+"},
		"mysql://u:100%@h/db":                    {host: "h", port: "3306", name: "db", user: "u", password: "100%"},
		"mysql://u:p@[::1]:3307/db":              {host: "::1", port: "3307", name: "db", user: "u", password: "p"},
		"mysql://u:p@[::1]/db":                   {host: "::1", port: "3306", name: "db", user: "u", password: "p"},
		"mysql:///db?unix_socket=/run/s&tls=no0": {},
		"mysql:///db?unix_socket=/run/s":         {host: "localhost", port: "3306", name: "db", socket: "/run/s"},
		"mysql://h/db?ssl_ca=/etc/ca.pem":        {host: "h", port: "3306", name: "db", ca: "/etc/ca.pem", tls: true},
		"mysql://h/db?tls=true":                  {host: "h", port: "3306", name: "db", tls: true},
	} {
		got, err := parseURL(in)
		if got != want && want != (address{}) || (err != nil) != (want == address{}) {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "records.db", "postgres://secret@h/db", "mysql:u:secret@h/db", "mysql://u:secret@h", "mysql://u:secret@h/", "mysql://u:secret@h:0/db",
		"mysql://u:secret@h:x/db", "mysql://u:secret@h/db?secret=1%", "mysql://u:secret@h/db?sslmode=x", "sqlite:", "sqlite:x?mode=memory"} {
		if _, err := parseURL(in); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	f.Add("mysql+pymysql://u:p@ss@h:3307/db?tls=true")
	f.Add("sqlite:/x")
	f.Fuzz(func(t *testing.T, s string) {
		if a, err := parseURL(s); err == nil && (a.path == "") == (a.name == "") {
			t.Errorf("%q: %+v", s, a)
		}
	})
}
