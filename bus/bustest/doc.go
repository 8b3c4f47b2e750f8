// Package bustest runs an embedded server for tests, with the streams of
// loadnode and with the restricted credentials that nodes really have, and
// helps to wait for what happens on it without sleeping.
package bustest
