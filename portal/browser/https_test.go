package browser

import (
	"net/http"
	"time"

	"github.com/sealmq/sealmq/mtls"
)

// httpsClient is a client with a certificate.
func httpsClient(files mtls.Files) (*http.Client, error) {
	conf, err := mtls.ClientConfig(files, mtls.ClientOptions{})
	if err != nil {
		return nil, err
	}
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true}}, nil
}
