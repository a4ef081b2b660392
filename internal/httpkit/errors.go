package httpkit

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/sealmq/sealmq"
)

// Code is the stable name of an error in an answer.
type Code string

// The codes (specification 0.5).
const (
	CodeValidation           Code = "validation_error"
	CodeAuthentication       Code = "authentication_error"
	CodeAuthorization        Code = "authorization_error"
	CodeNotFound             Code = "not_found"
	CodeMethodNotAllowed     Code = "method_not_allowed"
	CodeConflict             Code = "conflict"
	CodePayloadTooLarge      Code = "payload_too_large"
	CodeUnsupportedMediaType Code = "unsupported_media_type"
	CodeRateLimitExceeded    Code = "rate_limit_exceeded"
	CodeAccountLocked        Code = "account_locked"
	CodeInternal             Code = "internal_error"
	CodeUnavailable          Code = "service_unavailable"
	// The codes about accounts have no number in the specification.
	CodeInvalidCredentials Code = "invalid_credentials"
	CodeSecondFactor       Code = "second_factor_required"
	CodeInactive           Code = "account_inactive"
	CodeConfirmation       Code = "confirmation_required"
	CodeChangePassword     Code = "password_change_required"
	CodeInvalidLink        Code = "invalid_link"
)

// statuses are what the codes are sent with.
var statuses = map[Code]int{
	CodeValidation:           http.StatusUnprocessableEntity,
	CodeAuthentication:       http.StatusUnauthorized,
	CodeAuthorization:        http.StatusForbidden,
	CodeNotFound:             http.StatusNotFound,
	CodeMethodNotAllowed:     http.StatusMethodNotAllowed,
	CodeConflict:             http.StatusConflict,
	CodePayloadTooLarge:      http.StatusRequestEntityTooLarge,
	CodeUnsupportedMediaType: http.StatusUnsupportedMediaType,
	CodeRateLimitExceeded:    http.StatusTooManyRequests,
	CodeAccountLocked:        http.StatusTooManyRequests,
	CodeInternal:             http.StatusInternalServerError,
	CodeUnavailable:          http.StatusServiceUnavailable,
	CodeInvalidCredentials:   http.StatusUnauthorized,
	CodeSecondFactor:         http.StatusUnauthorized,
	CodeInactive:             http.StatusForbidden,
	CodeConfirmation:         http.StatusForbidden,
	CodeChangePassword:       http.StatusForbidden,
	CodeInvalidLink:          http.StatusGone,
}

// Error is an answer that says what is wrong. Its texts go to the peer: they hold no secret
// and nothing of what the peer sent.
type Error struct {
	Code Code
	// Message is a sentence or two: what is wrong, and what to do about it.
	Message string
	// Fields are the values that break a rule, for CodeValidation.
	Fields []Field
	// RetryAfter is when to try again; it is sent in whole seconds, rounded up.
	RetryAfter time.Duration
	// Status replaces the code's own status if it is not zero.
	Status int
	// SecondFactorToken is a member of the answer if it is not empty, in the style Problem.
	SecondFactorToken string
	// Challenge is the WWW-Authenticate header, if it is not empty.
	Challenge string
	// Close ends the connection after the answer.
	Close bool
	// Err is the cause, for the log only.
	Err error
}

// Field says which value of a request breaks a rule.
type Field struct {
	// Type is missing, string_type, value_error, … (specification 0.6).
	Type string `json:"type"`
	// Loc is where the value is: "body", "path", "query" or "header", then names and indexes.
	Loc []any `json:"loc"`
	// Msg is a sentence that does not repeat the value.
	Msg string `json:"msg"`
}

// Error implements error. It gives the cause too.
func (e *Error) Error() string {
	if e.Err != nil {
		return e.Message + ": " + e.Err.Error()
	}
	return e.Message
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func (e *Error) status() int {
	switch {
	case e.Status != 0:
		return e.Status
	case statuses[e.Code] != 0:
		return statuses[e.Code]
	}
	return http.StatusInternalServerError
}

// Errorf makes an Error of a code.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Invalid makes the Error for values that break rules. There must be one at least.
func Invalid(fields ...Field) *Error {
	return &Error{Code: CodeValidation, Message: fields[0].Msg, Fields: fields}
}

// codes are what the codes of package sealmq are here. Others are internal errors.
var codes = map[sealmq.Code]Code{
	sealmq.Unavailable: CodeUnavailable, sealmq.NoStorage: CodeUnavailable, sealmq.QueueFull: CodeUnavailable, sealmq.LimitReached: CodeUnavailable,
	sealmq.Denied:    CodeAuthorization,
	sealmq.Duplicate: CodeConflict, sealmq.Mismatch: CodeConflict, sealmq.InUse: CodeConflict,
	sealmq.TooLarge: CodePayloadTooLarge,
	sealmq.NoQueue:  CodeNotFound, sealmq.NoExchange: CodeNotFound, sealmq.NoKey: CodeNotFound,
	sealmq.BadName: CodeValidation, sealmq.BadArgument: CodeValidation,
}

// ErrorOf is the Error in err's chain, or the one that fits a coded error of package
// sealmq, a body that is too large, or a call that took too long. Every other error is
// internal: its text stays in the log.
func ErrorOf(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &Error{Code: CodePayloadTooLarge, Message: fmt.Sprintf("The body is larger than %d bytes", tooLarge.Limit), Close: true}
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return &Error{Code: CodeUnavailable, Message: "The request took too long; try again later", Err: err}
	}
	if coded, ok := errors.AsType[*sealmq.Error](err); ok && codes[coded.Code] != "" {
		return &Error{Code: codes[coded.Code], Message: coded.Message, Err: err}
	}
	return &Error{Code: CodeInternal, Message: "Internal server error", Err: err}
}
