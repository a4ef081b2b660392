package main

import (
	"errors"
	"io/fs"
	"os"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/api/proxyapi"
	"github.com/sealmq/sealmq/mtls"
)

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
		r, err := c.SubmitMessageWithResponse(a.ctx, nil, m)
		if err != nil {
			return err
		}
		accepted, text := r.JSON202, "queued as "
		if accepted.Duplicate {
			text = "was queued before, as "
		}
		return a.report(nil, accepted, "%s%s", text, accepted.MessageID)
	})
}

// proxyClient returns a client of the proxy at an address, by default the one that the
// configuration names.
func (f *connectFlags) proxyClient(address string) (*proxyapi.ClientWithResponses, error) {
	files, err := f.clientFiles()
	if err != nil {
		return nil, err
	}
	if address, err = f.apiURL("proxy", address); err != nil {
		return nil, err
	}
	c, err := newAPICaller(files, "proxy")
	if err != nil {
		return nil, err
	}
	return proxyapi.NewClientWithResponses(address, proxyapi.WithHTTPClient(c))
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
