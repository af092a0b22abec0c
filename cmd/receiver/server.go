package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/gin-gonic/gin"
)

// Each time-out ends within the one below it. A body has readTimeout less what its header took.
const (
	readHeaderTimeout = 4 * time.Second
	readTimeout       = 8 * time.Second
	storeTimeout      = 5 * time.Second
	writeTimeout      = readTimeout + storeTimeout + 5*time.Second
	idleTimeout       = 75 * time.Second // above the 60 s of most balancers, which would else meet connections just closed

	// maxHeader lets through a signature header far too long, to be refused as one (401) and not as a header (431).
	maxHeader = 128 << 10
)

func newServer(h *webhooks, log *slog.Logger) *http.Server {
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.RedirectTrailingSlash = false
	engine.HandleMethodNotAllowed = true
	if err := engine.SetTrustedProxies(nil); err != nil {
		panic(err) // an empty list parses
	}
	engine.Use(h.recoverPanic)
	engine.POST(webhooksPath, h.receive)
	return &http.Server{
		Handler:           engine,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // what strangers do to connections
	}
}

// recoverPanic answers 500 and says where it happened, but not with which values: they may be a person's.
func (h *webhooks) recoverPanic(c *gin.Context) {
	started := time.Now()
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
			panic(p)
		}
		what := fmt.Sprintf("%T", p)
		if err, ok := p.(runtime.Error); ok {
			what = err.Error()
		}
		h.log.Error("panic", slog.String("what", what), slog.String("stack", string(debug.Stack())))
		h.metrics.observe(answer{result: resultPanicked, err: errPanic}, time.Since(started))
		c.Header("Connection", "close")
		c.AbortWithStatus(http.StatusInternalServerError)
	}()
	c.Next()
}

var errPanic = errors.New("panic")
