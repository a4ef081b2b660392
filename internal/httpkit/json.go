package httpkit

import (
	"bytes"
	"errors"
	"io"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"
)

// MaxJSONDepth bounds how deep objects and lists of a request's body lie in each other.
const MaxJSONDepth = 32

// ReadBody reads the body of a request, which the route has bounded, into buf.
func ReadBody(r *http.Request, buf []byte) ([]byte, error) {
	b := bytes.NewBuffer(buf[:0])
	if n := r.ContentLength; n > 0 && n <= DefaultMaxBody {
		b.Grow(int(n) + bytes.MinRead)
	}
	if r.Body == nil {
		return b.Bytes(), nil
	}
	_, err := b.ReadFrom(r.Body)
	return b.Bytes(), err
}

// CheckJSON refuses a body that is no JSON value by RFC 8259, has a name twice in one
// object, is not UTF-8, is nested deeper than MaxJSONDepth, or has something behind it. The
// error is an Error with the place, and quotes nothing.
func CheckJSON(body []byte) error {
	d := jsontext.NewDecoder(bytes.NewBuffer(body))
	for {
		if _, err := d.ReadToken(); err != nil {
			if errors.Is(err, io.EOF) && d.InputOffset() > 0 {
				break
			}
			return JSONError(d, err)
		}
		if d.StackDepth() > MaxJSONDepth {
			return Invalid(Field{"json_invalid", []any{"body", d.InputOffset()}, "The JSON is nested too deep"})
		}
		if d.StackDepth() == 0 {
			break
		}
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return Invalid(Field{"json_invalid", []any{"body", d.InputOffset()}, "Something follows the JSON value"})
	}
	return nil
}

// JSONError is the Error for what a decoder of a body has refused.
func JSONError(d *jsontext.Decoder, err error) error {
	offset := d.InputOffset()
	msg := "The body is not valid JSON in UTF-8"
	syntax, ok := errors.AsType[*jsontext.SyntacticError](err)
	switch {
	case !ok && !errors.Is(err, io.EOF):
		return err
	case !ok || errors.Is(err, io.ErrUnexpectedEOF):
		msg = "The JSON ends too early"
		if offset == 0 {
			msg = "The body is empty"
		}
	default:
		offset = syntax.ByteOffset
		if errors.Is(err, jsontext.ErrDuplicateName) {
			msg = "A name is twice in one object"
		}
	}
	return Invalid(Field{"json_invalid", []any{"body", offset}, msg})
}

// StrictJSON lets only bodies through that CheckJSON accepts. It is for generated code,
// whose decoder accepts more.
func StrictJSON(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != nil && r.Body != http.NoBody {
			body, err := ReadBody(r, nil)
			if err == nil {
				err = CheckJSON(body)
			}
			if err != nil {
				WriteError(w, r, err)
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		next.ServeHTTP(w, r)
	})
}
