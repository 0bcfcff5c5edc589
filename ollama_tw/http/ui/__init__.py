"""Web page of the server: chat, models and live figures."""
