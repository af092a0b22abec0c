package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/gin-gonic/gin"
)

const (
	maxBody   = 1 << 20  // of an event
	smallBody = 64 << 10 // LeadGrid's are far smaller still
	promised  = 4 << 10  // what a sender may have for a mere promise
	largeOnes = 32       // how many bodies above smallBody are held at once
)

// Why a body was not read to its end.
var (
	errTooLarge = fmt.Errorf("the body is larger than %d bytes", maxBody)
	errTooSlow  = errors.New("the body did not arrive in time")
	errTooMany  = errors.New("too many large bodies are being received")
)

// bodies reads request bodies before it is known who sent them. Small ones are read freely, a buffer growing with what
// has really come; large ones take turns, so that whoever sends many of them, slowly, uses little memory and keeps nobody
// from sending small ones. A large one has its turn until the request is answered.
type bodies struct {
	large chan struct{}
}

func newBodies() *bodies { return &bodies{large: make(chan struct{}, largeOnes)} }

// read returns the body and what is to be called when it is no longer held.
func (b *bodies) read(c *gin.Context) (body []byte, release func(), err error) {
	release = func() {}
	announced := c.Request.ContentLength // -1 when chunked
	if announced > maxBody {
		return nil, release, errTooLarge
	}
	if 0 <= announced && announced <= promised { // nearly all
		body := make([]byte, announced)
		_, err := io.ReadFull(c.Request.Body, body)
		return body, release, readError(err)
	}
	from := http.MaxBytesReader(c.Writer, c.Request.Body, maxBody)
	buffer := bytes.NewBuffer(make([]byte, 0, promised))
	if _, err := io.CopyN(buffer, from, smallBody); err != nil {
		return buffer.Bytes(), release, readError(err)
	}
	select {
	case b.large <- struct{}{}:
		release = func() { <-b.large }
	default:
		return nil, release, errTooMany
	}
	_, err = buffer.ReadFrom(from)
	return buffer.Bytes(), release, readError(err)
}

// readError gives the ways a body can fail their names. Its end is none.
func readError(err error) error {
	_, tooLarge := errors.AsType[*http.MaxBytesError](err)
	switch {
	case err == nil, errors.Is(err, io.EOF):
		return nil
	case tooLarge:
		return errTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errTooSlow
	default:
		return fmt.Errorf("read the body: %w", err)
	}
}

// leaveBody decides what becomes of a body that will not be looked at: a small one is skipped by net/http and the connection
// kept, for anything else it is closed.
func leaveBody(c *gin.Context) {
	if n := c.Request.ContentLength; n < 0 || n > smallBody {
		c.Header("Connection", "close")
	}
}
