"""A service that was made from the template: releases, and updates that lose no edit. Private."""
