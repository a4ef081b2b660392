package main

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/mtls"
)

// apiCaller makes the calls of a generated client of the HTTP API. What is no success in JSON becomes
// an error. Each operation has one success, so a command finds the content where there is no error.
type apiCaller struct {
	http.Client
	role string // of the server: main or proxy
}

// newAPICaller makes calls with a certificate to the server of a role.
func newAPICaller(files mtls.Files, role string) (*apiCaller, error) {
	conf, err := mtls.ClientConfig(files, mtls.ClientOptions{})
	if err != nil {
		return nil, withHint(err, certificateHint)
	}
	return &apiCaller{http.Client{Transport: &http.Transport{TLSClientConfig: conf}, Timeout: commandTimeout}, role}, nil
}

// Do makes one call.
func (c *apiCaller) Do(r *http.Request) (*http.Response, error) {
	resp, err := c.Client.Do(r)
	if err != nil {
		return nil, c.away(err)
	}
	isJSON := strings.Contains(resp.Header.Get("Content-Type"), "json")
	if resp.StatusCode < http.StatusMultipleChoices && (isJSON || resp.StatusCode == http.StatusNoContent) {
		return resp, nil
	}
	defer resp.Body.Close()
	var p mainapi.Problem // the proxy's is the same
	if !isJSON || json.NewDecoder(resp.Body).Decode(&p) != nil {
		server := map[string]string{"main": "main server", "proxy": "proxy"}[c.role]
		return nil, fmt.Errorf("the %s answered %s", server, resp.Status)
	}
	for _, e := range p.Errors {
		err = errors.Join(err, errors.New(e.Msg))
	}
	if err == nil {
		err = errors.New(p.Detail)
	}
	return nil, err
}

// apiURL is the given address of the server of a role, or else the one that the configuration
// names.
func (f *connectFlags) apiURL(role, given string) (string, error) {
	if given != "" {
		return given, checkHTTPS("--"+role+"-url", given)
	}
	cfg, err := clientConfig(f.cmd)
	if err != nil {
		return "", err
	}
	key := role + ".addr"
	addr, err := dialAddr(key, cfg.field(key).value.String())
	return "https://" + addr, err
}

// checkHTTPS refuses an address to which a message would go in clear.
func checkHTTPS(flag, address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return usagef("%s: %q is not https://host:port", flag, address)
	}
	return nil
}

const certificateHint = `issue a certificate with "sealmq cert issue NAME" and name it with --as, or name the files with --cert, --cert-key and --ca`

// away adds a hint to the error of a call that had no answer: one about certificates if they
// are to blame.
func (c *apiCaller) away(err error) error {
	hint := fmt.Sprintf("see that a node with the role %s runs, and name its address with --%[1]s-url", c.role)
	var alert *net.OpError
	var other x509.UnknownAuthorityError
	switch {
	case errors.As(err, &alert) && alert.Op == "remote error": // a TLS alert
		hint = "the server does not accept this certificate; use one that its authority issued, with --as or --cert"
	case errors.As(err, &other):
		hint = "another authority issued the server's certificate; name that authority's certificate with --ca, or its data folder with --data"
	}
	return withHint(err, "%s", hint)
}
