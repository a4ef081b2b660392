package records

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// address is a parsed URL.
type address struct {
	path string // of an SQLite file; empty for MySQL

	host, port, name, user, password string
	socket                           string // in place of host and port
	tls                              bool
	ca                               string // file with authorities for TLS
}

var errURL = errors.New(`a database is sqlite:PATH or mysql://USER:PASSWORD@HOST:PORT/NAME, with "@", "/" and ":" in user and password percent-encoded`)

// parseURL reads the address of a database. Its errors do not repeat the address, which has
// a password.
func parseURL(s string) (a address, err error) {
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok {
		return a, errURL
	}
	scheme, _, _ = strings.Cut(strings.ToLower(scheme), "+") // the driver of another language
	switch scheme {
	case "sqlite":
		if after, ok := strings.CutPrefix(rest, "///"); ok { // three slashes: what follows is the path
			rest = after
		}
		if rest == "" || strings.ContainsAny(rest, "?#\x00") {
			return a, errors.New(`the path of an SQLite database is empty, or contains "?" or "#"`)
		}
		return address{path: rest}, nil
	case "mysql", "mariadb":
		rest, ok = strings.CutPrefix(rest, "//")
		if !ok {
			return a, errURL
		}
		return parseServer(rest)
	}
	return a, errURL
}

// parseServer reads user:password@host:port/name?options.
func parseServer(s string) (a address, err error) {
	// The last @ separates, because published examples have passwords with one.
	if i := strings.LastIndex(s, "@"); i >= 0 {
		user, password, _ := strings.Cut(s[:i], ":")
		a.user, a.password = unescape(user), unescape(password)
		s = s[i+1:]
	}
	s, options, _ := strings.Cut(s, "?")
	host, name, ok := strings.Cut(s, "/")
	a.name = unescape(name)
	if !ok || a.name == "" {
		return a, errors.New("the address of the database has no name of a database behind the host")
	}
	a.host, a.port = host, "3306"
	if h, p, err := net.SplitHostPort(host); err == nil {
		a.host, a.port = h, p
	} else if strings.HasPrefix(host, "[") {
		a.host = strings.Trim(host, "[]")
	}
	a.host = cmp.Or(a.host, "localhost")
	if n, err := strconv.Atoi(a.port); err != nil || n < 1 || n > 65535 {
		return a, errors.New("the port of the database is not a number from 1 to 65535")
	}
	query, err := url.ParseQuery(options)
	if err != nil {
		return a, errors.New("the options of the database's address cannot be read")
	}
	for key, values := range query {
		v := values[len(values)-1]
		switch key {
		case "charset": // always utf8mb4
		case "unix_socket":
			a.socket = v
		case "ssl_ca":
			a.ca, a.tls = v, true
		case "tls", "ssl":
			if a.tls, err = strconv.ParseBool(v); err != nil {
				return a, fmt.Errorf("option %s of the database's address is not true or false", key)
			}
		default:
			return a, fmt.Errorf("option %q of the database's address is not known; there are tls, ssl_ca, unix_socket and charset", key)
		}
	}
	return a, nil
}

// unescape decodes percent signs; what is no valid code stays as it is.
func unescape(s string) string {
	if u, err := url.PathUnescape(s); err == nil {
		return u
	}
	return s
}
