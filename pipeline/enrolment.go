package pipeline

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/sealmq/sealmq"
)

// EnrolmentTokenPrefix begins an enrolment token.
const EnrolmentTokenPrefix = "smqe_"

// MaxEnrolmentToken bounds the text of a token.
const MaxEnrolmentToken = 2048

// EnrolmentToken lets a machine get a certificate. It says whom to ask and which authority to
// believe, so that nothing needs to be trusted before. It is a secret.
type EnrolmentToken struct {
	Version int    `json:"v"`
	ID      string `json:"i"`
	Secret  string `json:"s"`
	// Server is the address of the main server, https://host:port.
	Server string `json:"a"`
	// Root is the SHA-256 of the authority's root certificate in lower-case hexadecimal.
	Root string      `json:"f"`
	Name string      `json:"n"`
	Role sealmq.Role `json:"r"`
}

// String is the token as one word.
func (t EnrolmentToken) String() string {
	t.Version = 1
	data, err := json.Marshal(t)
	if err != nil {
		panic("pipeline: internal error: a token cannot be encoded: " + err.Error()) // it has strings only
	}
	return EnrolmentTokenPrefix + base64.RawURLEncoding.EncodeToString(data)
}

var (
	hexDigest   = regexp.MustCompile(`^[0-9a-f]{64}$`)
	enrolmentID = regexp.MustCompile(`^[0-9a-f]{16}$`)
)

// ParseEnrolmentToken reads a token. Its errors do not repeat it.
func ParseEnrolmentToken(text string) (t EnrolmentToken, err error) {
	text = strings.TrimSpace(text)
	if len(text) > MaxEnrolmentToken || !strings.HasPrefix(text, EnrolmentTokenPrefix) {
		return t, errors.New("this is no enrolment token: one begins with " + EnrolmentTokenPrefix)
	}
	data, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(text, EnrolmentTokenPrefix))
	if err == nil {
		err = json.Unmarshal(data, &t)
	}
	switch {
	case err != nil:
		return EnrolmentToken{}, errors.New("the enrolment token is not complete: copy all of it")
	case t.Version != 1:
		return EnrolmentToken{}, errors.New("the enrolment token is of a newer version of SealMQ: install that here")
	case !enrolmentID.MatchString(t.ID) || t.Secret == "" || !hexDigest.MatchString(t.Root) || t.Name == "":
		return EnrolmentToken{}, errors.New("the enrolment token is not complete: copy all of it")
	}
	return t, CheckMainAddress(t.Server)
}

// CheckMainAddress returns an error unless an address is https://host or https://host:port.
func CheckMainAddress(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.Path != "" || u.RawQuery != "" || u.User != nil || u.Fragment != "" || !portFits(u) {
		return errors.New("the main server's address must have the form https://host:port")
	}
	return nil
}

// portFits reports whether a URL has a port that can be dialed, or none and no colon for one.
func portFits(u *url.URL) bool {
	if u.Port() == "" {
		return !strings.HasSuffix(u.Host, ":")
	}
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	return err == nil && n > 0
}
