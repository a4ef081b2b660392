package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/api/proxyapi"
	"github.com/sealmq/sealmq/mtls"
)

// submitTimeout bounds the call to the proxy.
const submitTimeout = 30 * time.Second

func newSubmitCmd() *cobra.Command {
	var m proxyapi.Submission
	var proxyURL string
	cmd := &cobra.Command{
		Use:   "submit",
		Short: "Submit a message to the pipeline",
		Long: `Submit a message to the proxy of the pipeline, with a client's certificate. If neither --as nor --cert names
one and the current folder has certs/client.crt, that is used, with client.key and ca.crt beside it.

When the command succeeds the message is stored in the queue. With --id the same message can be submitted again
after a doubt, and is stored once.`,
		Example: `  sealmq submit --sender +4915200000000 --message "Test message"`,
	}
	f := addIdentityFlags(cmd, "submit")
	fl := cmd.Flags()
	fl.StringVar(&m.SenderNumber, "sender", "", "phone `number` of the sender, as +4915200000000")
	fl.StringVar(&m.MessageBody, "message", "", "`text` of the message")
	fl.StringVar(&m.MessageID, "id", "", "own `key` of the message, by which it is recognised if it is submitted again")
	fl.StringVar(&m.Metadata.Domain, "domain", "", "`domain` of the message (default: default)")
	fl.StringVar(&proxyURL, "proxy-url", "", "`address` of the proxy, https://host:port (default: proxy.addr of the configuration)")
	_ = cmd.MarkFlagRequired("sender")
	_ = cmd.MarkFlagRequired("message")
	return standalone(cmd, func(a call) error {
		// JSON would have other characters in the place of those that are none.
		for flag, text := range map[string]string{"--message": m.MessageBody, "--id": m.MessageID} {
			if !utf8.ValidString(text) {
				return usagef("%s: the text is not valid UTF-8", flag)
			}
		}
		c, err := f.proxyClient(proxyURL)
		if err != nil {
			return err
		}
		accepted, err := submit(a.ctx, c, m)
		if err != nil {
			return err
		}
		text := "queued as " + accepted.MessageID
		if accepted.Duplicate {
			text = "was queued before, as " + accepted.MessageID
		}
		return a.report(nil, accepted, "%s", text)
	})
}

// proxyClient returns a client of the proxy at an address, by default the one that the
// configuration names.
func (f *connectFlags) proxyClient(address string) (*proxyapi.ClientWithResponses, error) {
	files, err := f.clientFiles()
	if err != nil {
		return nil, err
	}
	if address == "" {
		cfg, err := clientConfig(f.cmd)
		if err != nil {
			return nil, err
		}
		addr, err := dialAddr("proxy.addr", cfg.Proxy.Addr)
		if err != nil {
			return nil, err
		}
		address = "https://" + addr
	}
	if err := checkHTTPS("--proxy-url", address); err != nil {
		return nil, err
	}
	conf, err := mtls.ClientConfig(files, mtls.ClientOptions{})
	if err != nil {
		return nil, withHint(err, certificateHint)
	}
	hc := &http.Client{Transport: &http.Transport{TLSClientConfig: conf}, Timeout: submitTimeout}
	return proxyapi.NewClientWithResponses(address, proxyapi.WithHTTPClient(hc))
}

const certificateHint = `issue a certificate with "sealmq cert issue NAME" and name it with --as, or name the files with --cert, --cert-key and --ca`

// callFailed adds a hint to the error of a call that had no answer: one about certificates if
// they are to blame, else away.
func callFailed(err error, away string) error {
	var alert *net.OpError
	var other x509.UnknownAuthorityError
	switch {
	case errors.As(err, &alert) && alert.Op == "remote error": // a TLS alert
		away = "the server does not accept this certificate; use one that its authority issued, with --as or --cert"
	case errors.As(err, &other):
		away = "another authority issued the server's certificate; name that authority's certificate with --ca, or its data folder with --data"
	}
	return withHint(err, "%s", away)
}

// checkHTTPS refuses an address to which a message would go in clear.
func checkHTTPS(flag, address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return usagef("%s: %q is not https://host:port", flag, address)
	}
	return nil
}

// clientFiles is files, with certs/client.crt of the current folder as the default.
func (f *connectFlags) clientFiles() (mtls.Files, error) {
	here := mtls.FilesIn("certs", "client")
	if _, err := os.Stat(here.Cert); f.cert == "" && !f.asGiven() && !errors.Is(err, fs.ErrNotExist) {
		if f.ca != "" {
			here.CA = f.ca
		}
		return here, err
	}
	return f.files()
}

// submit submits one message.
func submit(ctx context.Context, c *proxyapi.ClientWithResponses, m proxyapi.Submission) (*proxyapi.Accepted, error) {
	r, err := c.SubmitMessageWithResponse(ctx, nil, m)
	if err != nil {
		return nil, callFailed(err, "see that a node with the role proxy runs, and name its address with --proxy-url")
	}
	if r.JSON202 != nil {
		return r.JSON202, nil
	}
	p := r.ApplicationProblemJSONDefault
	if p == nil {
		return nil, fmt.Errorf("the proxy answered %s", r.HTTPResponse.Status)
	}
	for _, e := range p.Errors {
		err = errors.Join(err, errors.New(e.Msg))
	}
	if err == nil {
		err = errors.New(p.Detail)
	}
	return nil, err
}
