package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/otel/attribute"

	"github.com/leadgrid-sync/leadgrid-sync/internal/tracing"
	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi"
	"github.com/leadgrid-sync/leadgrid-sync/sync/events"
)

// webhooksPath is where LeadGrid is told to send its events.
const webhooksPath = "/webhooks/leadgrid"

// retryAfter is what a sender is told to wait when an event could not be stored.
const retryAfter = 5 * time.Second

// webhooks takes LeadGrid's events: it answers 2xx only once an authentic one is committed, and looks at as little of any
// other request as it can.
type webhooks struct {
	secrets *secrets
	store   storeFunc
	bodies  *bodies
	metrics *metrics
	log     *slog.Logger
}

// storeFunc returns once an event is committed, see [events.Intake.Add].
type storeFunc func(context.Context, events.Received) (events.Stored, error)

// answer is what a request gets, and what is told of it to metrics and logs.
type answer struct {
	status int
	result result
	event  events.Stored // of an authentic request that was stored
	err    error         // why it was not
}

func (h *webhooks) receive(c *gin.Context) {
	started := time.Now()
	a := h.judge(c, started)
	if a.status == http.StatusServiceUnavailable {
		c.Header("Retry-After", strconv.Itoa(int(retryAfter.Seconds())))
	}
	c.String(a.status, a.text())
	took := time.Since(started)
	h.metrics.observe(a, took)
	h.logAnswer(c, a, took)
}

// judge checks the cheap things first: nothing is read of a body whose signature cannot be right, and nothing unsigned
// reaches the database.
func (h *webhooks) judge(c *gin.Context, now time.Time) answer {
	verifier := h.secrets.verifier()
	signature, err := leadgridapi.ParseSignature(c.Request.Header.Values(leadgridapi.SignatureHeader))
	if err == nil {
		err = verifier.CheckAge(signature, now)
	}
	if err != nil {
		leaveBody(c)
		return answer{status: http.StatusUnauthorized, result: resultUnsigned, err: err}
	}
	body, release, err := h.bodies.read(c)
	defer release()
	if err != nil {
		c.Header("Connection", "close") // what remains of the body is nobody's next request
		return refuseBody(err)
	}
	if err := verifier.Check(signature, body); err != nil {
		return answer{status: http.StatusUnauthorized, result: resultUnsigned, err: err}
	}
	ctx, span := tracing.Webhook(c.Request.Context(), now)
	defer span.End()
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	event, err := h.store(ctx, events.Received{Body: body, At: now})
	if span.IsRecording() {
		span.SetAttributes(attribute.String("leadgrid.event.id", event.ID), attribute.String("leadgrid.event.type", typeLabel(event.Type)))
	}
	switch {
	case err != nil:
		tracing.Failed(span)
		return answer{status: http.StatusServiceUnavailable, result: resultUnavailable, err: err}
	case event.Duplicate:
		return answer{status: http.StatusOK, result: resultDuplicate, event: event}
	case event.Odd != "":
		return answer{status: http.StatusOK, result: resultOdd, event: event}
	default:
		return answer{status: http.StatusOK, result: resultStored, event: event}
	}
}

// text tells the sender how it went, and why a signature was refused: the reason helps who sets up a webhook, and nobody
// else.
func (a answer) text() string {
	if a.result == resultUnsigned {
		return string(a.result) + ": " + rejectionReason(a.err) + "\n"
	}
	return string(a.result) + "\n"
}

func refuseBody(err error) answer {
	switch {
	case errors.Is(err, errTooLarge):
		return answer{status: http.StatusRequestEntityTooLarge, result: resultTooLarge, err: err}
	case errors.Is(err, errTooSlow):
		return answer{status: http.StatusRequestTimeout, result: resultTooSlow, err: err}
	case errors.Is(err, errTooMany):
		return answer{status: http.StatusServiceUnavailable, result: resultCrowded, err: err}
	default:
		return answer{status: http.StatusBadRequest, result: resultBroken, err: err}
	}
}

// logAnswer writes a line per event. Of requests that may come from anybody the metrics tell enough: they get one only
// when everything is logged.
func (h *webhooks) logAnswer(c *gin.Context, a answer, took time.Duration) {
	attributes := []slog.Attr{
		slog.Int("status", a.status), slog.String("result", string(a.result)), slog.Duration("duration", took),
	}
	level := slog.LevelInfo
	switch {
	case a.err == nil:
		attributes = append(attributes, slog.String("event", a.event.ID), slog.String("type", typeLabel(a.event.Type)))
		if a.event.Odd != "" {
			attributes = append(attributes, slog.String("odd", a.event.Odd))
		}
	case a.result == resultUnavailable:
		level = slog.LevelError
		attributes = append(attributes, slog.Any("error", a.err))
	default:
		level = slog.LevelDebug
		attributes = append(attributes, slog.Any("error", a.err))
	}
	h.log.LogAttrs(c.Request.Context(), level, "webhook", attributes...)
}
