package alert

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/sealmq/sealmq/internal/clock"
)

// Headers of a webhook. The signature is the HMAC-SHA256 of the time, a dot and the body,
// in hexadecimal after "sha256=".
const (
	TimeHeader      = "X-SealMQ-Time"
	SignatureHeader = "X-SealMQ-Signature"
)

// Tries of one message, and the pauses between them.
const (
	webhookTries = 3
	webhookPause = 500 * time.Millisecond // before the second, twice that before the third
)

// CheckWebhook says what is wrong with the address of a webhook: it must be https, or lead to
// this machine.
func CheckWebhook(address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "":
		return errors.New("must be a URL such as https://alerts.example.org/sealmq")
	case u.Scheme == "https":
		return nil
	case u.Scheme != "http":
		return errors.New("must begin with https://")
	}
	if ip := net.ParseIP(u.Hostname()); u.Hostname() == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return errors.New("must begin with https://; http:// is for this machine only")
}

type jsonAlert struct {
	Name     string    `json:"name"`
	Status   string    `json:"status"` // firing or resolved
	Severity Severity  `json:"severity"`
	Subject  string    `json:"subject,omitempty"`
	Text     string    `json:"text"`
	Since    time.Time `json:"since"`
	Runbook  string    `json:"runbook"`
}

type jsonMessage struct {
	Version int         `json:"version"`
	Node    string      `json:"node"`
	At      time.Time   `json:"at"`
	Test    bool        `json:"test,omitempty"`
	Open    int         `json:"open"`
	Alerts  []jsonAlert `json:"alerts"`
}

func (m *Message) json() ([]byte, error) {
	out := jsonMessage{Version: 1, Node: m.Node, At: m.At.UTC(), Test: m.Test, Open: m.Open, Alerts: []jsonAlert{}}
	add := func(status string, list []Alert) {
		for _, a := range list[:min(len(list), maxShown)] {
			out.Alerts = append(out.Alerts, jsonAlert{a.Name, status, a.Severity, a.Subject, a.Text, a.Since.UTC(), runbooks + a.Name + ".md"})
		}
	}
	add("firing", m.Firing)
	add("resolved", m.Resolved)
	return json.Marshal(out)
}

// Webhook returns a channel that posts each message as JSON. With a key, the message is signed.
// The address is in no error: it may contain a secret.
func Webhook(address string, key []byte) (Channel, error) {
	if err := CheckWebhook(address); err != nil {
		return Channel{}, err
	}
	client := &http.Client{
		Timeout:       10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return Channel{Name: "webhook", Send: func(ctx context.Context, m Message) error {
		body, err := m.json()
		if err != nil {
			return err
		}
		defer client.CloseIdleConnections()
		for try := 1; ; try++ {
			again, err := post(ctx, client, address, key, body)
			if err == nil || !again || try == webhookTries {
				return err
			}
			if clock.Sleep(ctx, clock.System, webhookPause<<(try-1)) != nil {
				return err
			}
		}
	}}, nil
}

// post makes one attempt. again says that another one may succeed.
func post(ctx context.Context, client *http.Client, address string, key, body []byte) (again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return false, errors.New("the address of the webhook is not valid")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "sealmq")
	if len(key) > 0 {
		at := strconv.FormatInt(time.Now().Unix(), 10)
		req.Header.Set(TimeHeader, at)
		req.Header.Set(SignatureHeader, "sha256="+Sign(key, at, body))
	}
	resp, err := client.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		return true, fmt.Errorf("call the webhook: %w", err)
	}
	resp.Body.Close()
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return false, nil
	}
	return resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests, fmt.Errorf("the webhook answered %s", resp.Status)
}

// Sign is the signature of a body that was sent at a time.
func Sign(key []byte, at string, body []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(at + "."))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}
